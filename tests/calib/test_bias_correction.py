"""Shifts of INT8, on a network small enough to follow by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgedetr.calib import bias_correction
from edgedetr.calib.bias_correction import mean_shifts
from edgedetr.calib.stats import TensorRange
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx

    Build = Callable[..., onnx.ModelProto]

SPEC = ModelSpec((2, 2), ("Car",), logits_name="y", boxes_name="y")
RANGES = [
    TensorRange("x", 1.27, 1.27, 0.0, 1.27),
    TensorRange("a", 12.7, 12.75, 0.0, 12.75),
]


def network(onnx_model: Build) -> onnx.ModelProto:
    """``x`` is the mean of the image's channels, ``a`` is ``x`` and ``y`` is ``a``."""
    one = np.zeros((16, 16, 1, 1))
    one[:, 0] = 1.27
    return onnx_model(
        [
            ("Conv", "stem", ["images", "w"], "x", {}),
            ("Conv", "one", ["x", "w1"], "a", {}),
            ("Conv", "two", ["a", "w1"], "y", {}),
        ],
        {"w": np.full((16, 3, 1, 1), 1 / 3), "w1": one},
        inputs={"images": (1, 3, 2, 2)},
        outputs=["y"],
    )


def images(folder: Path, *levels: int) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(len(levels))]
    for path, level in zip(paths, levels, strict=True):
        cv2.imwrite(str(path), np.full((2, 2, 3), level, np.uint8))
    return paths


def test_each_layer_is_measured_behind_corrected_ones(onnx_model: Build, tmp_path: Path) -> None:
    """``x`` is 102 / 255 = 0.4 on one frame and 100 / 255 on the other, which rounds to 0.39.

    So ``a`` lacks 1.27 (100 / 255 - 0.39) / 2 in the mean. It is corrected to 0.508 and 0.49804,
    which both round to 0.5.
    """
    found = mean_shifts(network(onnx_model), RANGES, SPEC, images(tmp_path, 102, 100))
    first = 1.27 * (100 / 255 - 0.39) / 2
    second = 1.27 * (1.27 * (0.4 + 100 / 255) / 2 - 0.5)
    assert found["int8"]["a"] == pytest.approx([first] * 16, abs=1e-6)
    assert found["int8"]["y"] == pytest.approx([second] * 16, abs=1e-6)
    assert set(found["uint8"]) == set(found["uint8_inputs"]) == {"a", "y"}


def test_fp8_has_its_own_shift(onnx_model: Build, tmp_path: Path) -> None:
    """100 / 255 is 196.1 steps of 0.896 / 448, which round to 192: 0.384."""
    model = onnx_model(
        [("Conv", "stem", ["images", "w"], "x", {}), ("Conv", "one", ["x", "w1"], "y", {})],
        {"w": np.full((32, 3, 1, 1), 1 / 3), "w1": np.eye(32).reshape(32, 32, 1, 1)},
        inputs={"images": (1, 3, 2, 2)},
        outputs=["y"],
    )
    ranges = [TensorRange("x", 0.5, 0.896, 0.0, 0.5)]
    found = mean_shifts(model, ranges, SPEC, images(tmp_path, 100))
    assert found["fp8"]["y"] == pytest.approx([100 / 255 - 0.384] * 32, abs=1e-6)


def test_a_model_that_onnx_cannot_convert_has_no_fp8(
    onnx_model: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> onnx.ModelProto:
        raise ArtifactError("no")

    monkeypatch.setattr(bias_correction, "raise_opset", refuse)
    found = mean_shifts(network(onnx_model), RANGES, SPEC, images(tmp_path, 100))
    assert set(found) == {"int8", "uint8", "uint8_inputs"}


def test_frames_beyond_the_limit_are_not_read(
    onnx_model: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bias_correction, "FRAMES", 1)
    model, paths = network(onnx_model), images(tmp_path, 102, 100)
    assert mean_shifts(model, RANGES, SPEC, paths) == mean_shifts(model, RANGES, SPEC, paths[:1])


def test_a_linear_layer_has_the_mean_of_its_last_axis(onnx_model: Build, tmp_path: Path) -> None:
    """From 0 to 2.55 a step is 0.01, and 100 / 255 rounds to 0.39; TensorRT leaves it float."""
    model = onnx_model(
        [
            ("Conv", "stem", ["images", "w"], "x", {}),
            ("Reshape", "flat", ["x", "to"], "f", {}),
            ("MatMul", "fc", ["f", "w2"], "y", {}),
        ],
        {"w": np.full((16, 3, 1, 1), 1 / 3), "w2": 1.27 * np.eye(4), "to": np.array([1, 16, 4])},
        inputs={"images": (1, 3, 2, 2)},
        outputs=["y"],
    )
    found = mean_shifts(
        model, [TensorRange("f", 1.0, 2.55, 0.0, 2.55)], SPEC, images(tmp_path, 100)
    )
    assert found["int8"] == {}
    for scheme in ("uint8", "uint8_inputs"):
        assert found[scheme]["y"] == pytest.approx([1.27 * (100 / 255 - 0.39)] * 4, abs=1e-6)


def test_nothing_to_round_has_no_shifts(onnx_model: Build, tmp_path: Path) -> None:
    model = onnx_model(
        [("Conv", "stem", ["images", "w"], "y", {})],
        {"w": np.ones((1, 3, 1, 1))},
        inputs={"images": (1, 3, 2, 2)},
        outputs=["y"],
    )
    assert mean_shifts(model, [], SPEC, images(tmp_path, 100)) == {}
