from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedetr.distill.dataset_conversion import convert
from edgedetr.distill.evaluation.saved import evaluate_saved
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.save_formats import SAVE_FORMATS
from edgedetr.runtime.saved_results import result_writer
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.save_formats import SaveFormat


def save(
    kind: SaveFormat, folder: Path, root: Path, names: tuple[str, ...] = ("Bus", "Car")
) -> None:
    """Write the white cars of the two validation frames, one of them at half its width."""
    folder.mkdir()
    writer = result_writer(kind, folder, names)
    for number, share in ((3, 1.0), (4, 0.5)):
        left = 10 + 8 * number
        box = np.array([[left, 10, left + 24 * share, 40]], np.float32)
        found = Detections(box, np.array([0.9], np.float32), np.array([1], np.int64))
        writer.add(root / f"training/image_2/{number:06d}.png", (64, 96), found)
    writer.close()


@pytest.mark.parametrize("kind", SAVE_FORMATS)
def test_results_of_any_format_against_labels_of_any(
    kind: SaveFormat, kitti: Path, tmp_path: Path
) -> None:
    """One of two cars is hit at every IoU limit, the other at 0.5 alone."""
    save(kind, tmp_path / "found", kitti)
    convert(kitti, tmp_path / "voc", "voc")
    scores = [evaluate_saved(root, tmp_path / "found") for root in (kitti, tmp_path / "voc")]
    assert scores[0].class_names == ("Car",)
    assert scores[0].ap50 == pytest.approx(1)
    assert 0.5 < scores[0].ap < 0.6
    assert scores[1].ap == scores[0].ap


def test_results_of_other_frames_or_classes_are_refused(kitti: Path, tmp_path: Path) -> None:
    save("kitti", tmp_path / "found", kitti, ("Bus", "Tram"))
    with pytest.raises(DataError, match=r"no detection has a class of .*; found Tram, wanted Car"):
        evaluate_saved(kitti, tmp_path / "found")
    with pytest.raises(DataError, match="no result is of a frame of train"):
        evaluate_saved(kitti, tmp_path / "found", "train")
    with pytest.raises(DataError, match="no such folder; wanted results"):
        evaluate_saved(kitti, tmp_path / "nothing")
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "detections.json").write_text("[{}]", encoding="utf-8")
    (tmp_path / "coco" / "images.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="not COCO results of edgedetr detect: no 'images'"):
        evaluate_saved(kitti, tmp_path / "coco")
