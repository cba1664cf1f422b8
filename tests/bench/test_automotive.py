"""The protocol of MLPerf Automotive on a tiny network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from edgedetr.bench import automotive
from edgedetr.bench.automotive import (
    Accuracy,
    ConstantStream,
    Plan,
    measure_automotive,
)
from edgedetr.bench.loadgen import stream_latency
from edgedetr.runtime.errors import ArtifactError, DataError
from edgedetr.runtime.files import sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tiny = Callable[..., Path]

SMALL = Plan(7, 5, (15.0, 1000.0))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A white image, with an object for the tiny network, and a black one."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, grey in (("a", 255), ("b", 0)):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((20, 40, 3), grey, np.uint8))
    return folder


def test_every_stream_is_run_in_full(tiny_onnx: Tiny, images: Path) -> None:
    path = tiny_onnx()
    report = measure_automotive(path, images, SMALL, command="bench")
    assert report.single_stream.samples == 7
    assert [s.rate_hz for s in report.constant_streams] == [15, 1000]
    assert [s.latency.samples for s in report.constant_streams] == [5, 5]
    assert [s.deadline_ms for s in report.constant_streams] == pytest.approx([66.667, 1], abs=1e-3)
    assert (report.sha256, report.input_hw, report.command) == (sha256(path), (8, 16), "bench")
    assert report.backend.startswith("onnxruntime ")
    # the white image has one detection, found by both
    assert report.accuracy == Accuracy("tiny.onnx", 2, 1, 0)
    assert report.accuracy.holds
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["format"] == "edgedetr-automotive-1"
    assert values["status"].startswith("unofficial: ")
    assert values["accuracy"]["share"] == 1
    assert values["constant_streams"][0]["tail_ratio"] >= 1


def test_a_frame_misses_that_takes_longer_than_a_period() -> None:
    stream = automotive._stream(100, [10_000_000, 10_000_001, 4_000_000, 30_000_000])
    assert stream == ConstantStream(
        100, 10, 2, stream_latency([10_000_000, 10_000_001, 4_000_000, 30_000_000])
    )
    assert stream.tail_ratio == pytest.approx(30 / 10.000001)


def test_answers_are_held_against_the_reference(tiny_onnx: Tiny, images: Path) -> None:
    reference = tiny_onnx().rename(images.parent / "reference.onnx")
    deaf = tiny_onnx(bias=((-9.0, -9.0), (-9.0, -9.0)))  # finds nothing on the white image either
    report = measure_automotive(deaf, images, SMALL, reference=reference)
    assert report.accuracy == Accuracy("reference.onnx", 2, 1, 1)
    assert not report.accuracy.holds
    assert "accuracy 0.00 % of the reference; unofficial" in report.describe()


def test_one_of_a_thousand_may_be_lost_and_nothing_compared_is_no_accuracy() -> None:
    assert Accuracy("m.onnx", 128, 1000, 1).holds
    assert not Accuracy("m.onnx", 128, 1000, 2).holds
    assert not Accuracy("m.onnx", 128, 0, 0).holds


def test_bad_inputs(tiny_onnx: Tiny, tmp_path: Path, images: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        measure_automotive(tiny_onnx(), tmp_path / "nowhere", SMALL)
    with pytest.raises(ArtifactError, match="is missing"):
        measure_automotive(images / "no.onnx", images, SMALL)


def test_the_command_writes_the_figures_and_one_line(
    tiny_onnx: Tiny, images: Path, edgedetr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automotive, "SHORT", SMALL)
    out = images.parent / "automotive.json"
    command = ("bench", "automotive", tiny_onnx(), "--images", images, "--short", "-o", out)
    status, printed, _ = edgedetr(*command)
    assert status == 0
    assert "tiny.onnx: " in printed
    assert " of 5 frames missed 15 Hz, p99.9 " in printed
    figures = json.loads(out.read_text())
    assert figures["command"].startswith("edgedetr bench automotive ")
    assert figures["plan"] == {
        "single_stream_frames": 7,
        "constant_stream_frames": 5,
        "rates_hz": [15.0, 1000.0],
    }


def test_a_lower_accuracy_fails_the_command_after_the_figures_are_written(
    tiny_onnx: Tiny, images: Path, edgedetr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automotive, "SHORT", SMALL)
    reference = tiny_onnx().rename(images.parent / "reference.onnx")
    deaf = tiny_onnx(bias=((-9.0, -9.0), (-9.0, -9.0)))
    out = images.parent / "automotive.json"
    command = ["bench", "automotive", deaf, "--images", images, "--short", "-o", out]
    status, _, err = edgedetr(*command, "--reference", reference)
    assert status == 1
    assert "1 of 1 detections differ from those of reference.onnx in ONNX Runtime" in err
    assert json.loads(out.read_text())["accuracy"]["holds"] is False
