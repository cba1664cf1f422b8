"""Calibration stats on disk."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from edgedetr.calib.stats import CalibrationStats, TensorRange, default_stats_path, read_stats
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "student.onnx"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def stats(model: Path) -> CalibrationStats:
    return CalibrationStats(
        model=model.name,
        model_sha256=sha256(model),
        spec=ModelSpec((8, 16), ("Car",), mean=(0.5, 0.5, 0.5)),
        method="percentile",
        percentile=99.99,
        frames=3,
        frames_sha256="00",
        ranges=(TensorRange("images", 1.27, 2.0), TensorRange("dead", 0.0, 0.0)),
    )


def test_stats_survive_the_disk(stats: CalibrationStats, model: Path) -> None:
    path = default_stats_path(model)
    stats.write(path)
    assert path.name == "student.calib.json"
    assert read_stats(path) == stats
    assert stats.ranges[0].scale == pytest.approx(0.01)
    assert stats.ranges[1].scale == 1.0


def test_stats_belong_to_one_model(stats: CalibrationStats, model: Path) -> None:
    stats.check_model(model)
    model.write_bytes(b"other weights")
    with pytest.raises(ArtifactError, match=r"made with student\.onnx .* calib collect"):
        stats.check_model(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amax": 3.0}, "amax 3.0 of images"),
        ({"amax": float("nan")}, "NaN is no number"),
        ({"max": float("inf")}, "Infinity is no number"),
        ({"tensor": "dead"}, "two ranges"),
        ({"scale": 1.0}, "unknown key 'scale'"),
    ],
)
def test_damaged_stats_are_refused(
    stats: CalibrationStats, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    values = dataclasses.asdict(stats)
    values["ranges"][0].update(change)
    path = tmp_path / "bad.calib.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ArtifactError, match=message):
        read_stats(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_what_is_no_calibration_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.calib.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="is not a calibration file"):
        read_stats(path)
    with pytest.raises(ArtifactError, match="is not a calibration file"):
        read_stats(tmp_path / "missing.json")


@pytest.mark.parametrize("scales", [[0.0], [-1.0], ["a"], [float("inf")]])
def test_scales_of_weights_are_positive_numbers(
    stats: CalibrationStats, scales: list[float]
) -> None:
    with pytest.raises(ValueError, match="the scales of the weights of conv are not positive"):
        dataclasses.replace(stats, weights={"conv": scales})
    assert dataclasses.replace(stats, weights={"conv": [0.5]}).weights == {"conv": [0.5]}
