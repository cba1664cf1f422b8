from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgedetr.runtime import Detector
from edgedetr.runtime.detect import detect
from edgedetr.runtime.images import list_images

if TYPE_CHECKING:
    from collections.abc import Callable

    Tiny = Callable[..., Path]

ROW = "Car -1 -1 -10 10.00 5.00 30.00 15.00 -1 -1 -1 -1000 -1000 -1000 -10 0.982014\n"


def test_paths_may_be_text(tiny_onnx: Tiny, images: Path, tmp_path: Path) -> None:
    with Detector.open(str(tiny_onnx())) as detector:
        detector.swap(str(tiny_onnx()))
        detect(detector, [str(p) for p in list_images(str(images))], str(tmp_path / "found"))
    assert (tmp_path / "found" / "000001.txt").read_text() == ROW


def test_results_are_saved_in_other_formats(tiny_onnx: Tiny, images: Path, tmp_path: Path) -> None:
    with Detector.open(tiny_onnx()) as detector:
        detect(detector, list_images(images), tmp_path / "coco", overlays=False, save="coco")
        detect(detector, list_images(images), tmp_path / "yolo", overlays=False, save="yolo")
    row = '{"image_id": 1, "category_id": 1, "bbox": [10.0, 5.0, 20.0, 10.0], "score": 0.982014}'
    assert row in (tmp_path / "coco" / "detections.json").read_text(encoding="utf-8")
    text = (tmp_path / "yolo" / "labels" / "000001.txt").read_text(encoding="utf-8")
    assert text == "0 0.5000000 0.5000000 0.5000000 0.5000000 0.982014\n"


def test_a_full_disk_names_the_results(
    tiny_onnx: Tiny, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Detector.open(tiny_onnx()) as detector:
        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left") as error:
            detect(detector, list_images(images), tmp_path / "found")
    assert error.value.filename == str(tmp_path / "found")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
