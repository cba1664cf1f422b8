from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgedetr.bench.latency import measure_latency
from edgedetr.runtime.backends.onnxruntime import OnnxSession
from edgedetr.runtime.errors import ArtifactError, DataError, UsageError
from edgedetr.runtime.files import sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tiny = Callable[..., Path]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b", "c"):
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((20, 40, 3), np.uint8))
    return folder


def test_the_figures_fit_together(tiny_onnx: Tiny, images: Path) -> None:
    path = tiny_onnx()
    report = measure_latency(path, images, 20, threads=1, command="bench")
    assert report.model_only.samples == report.end_to_end.samples == 20
    assert report.floor_ms == report.model_only.p50_ms > 0
    assert report.overhead_ratio == report.end_to_end.p50_ms / report.floor_ms
    # the tiny network takes next to nothing, so the rest of the detector is most of it
    assert report.overhead_ratio > 1.5
    assert 0 < report.preprocess_ms < report.end_to_end.p50_ms
    assert 0 < report.postprocess_ms < report.end_to_end.p50_ms
    assert (report.sha256, report.input_hw) == (sha256(path), (8, 16))
    assert (report.threads, report.command) == (1, "bench")
    assert report.backend.startswith("onnxruntime ")
    assert report.machine["cores"]
    assert any(name.startswith("onnxruntime==") for name in report.versions)


def test_every_frame_is_run_bare_and_end_to_end(
    tiny_onnx: Tiny, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    infer = OnnxSession.infer

    def counted(session: OnnxSession) -> object:
        runs.append(session)
        return infer(session)

    monkeypatch.setattr(OnnxSession, "infer", counted)
    measure_latency(tiny_onnx(), images, 7)
    assert len(runs) == 2 + 2 * (5 + 7)  # the detector's own warm-up, then pairs
    assert len(set(runs)) == 1


def test_bad_inputs(tiny_onnx: Tiny, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        measure_latency(tiny_onnx(), tmp_path / "nowhere", 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        measure_latency(tiny_onnx(), tmp_path / "empty", 1)


def test_a_missing_model(images: Path) -> None:
    with pytest.raises(ArtifactError, match="is missing"):
        measure_latency(images / "no.onnx", images, 1)


def test_another_backend_is_timed_and_takes_no_threads(tiny_onnx: Tiny, images: Path) -> None:
    path = tiny_onnx()
    report = measure_latency(path, images, 3, opening={"backend": "openvino"})
    assert report.backend.startswith("openvino ")
    for model, opening in ((path, {"backend": "openvino"}), (path.with_suffix(".tar"), {})):
        with pytest.raises(UsageError, match="--threads works only for an ONNX file"):
            measure_latency(model, images, 3, 1, opening=opening)
