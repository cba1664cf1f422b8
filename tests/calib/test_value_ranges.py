"""The least and the largest value of every float tensor, worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedetr.calib.value_ranges import Range, RangeProbe, value_ranges
from edgedetr.runtime.errors import ArtifactError, DataError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    Build = Callable[..., onnx.ModelProto]


def scaled(onnx_model: Build, last: str = "Relu") -> onnx.ModelProto:
    """Images times -2, and an operator."""
    return onnx_model(
        [("Mul", "scale", ["images", "factor"], "m", {}), (last, "last", ["m"], "y", {})],
        {"factor": np.array([-2.0])},
        inputs={"images": (1, 3, 2, 2)},
        outputs=["y"],
    )


def images(*values: float) -> np.ndarray:
    return np.resize(np.array(values, np.float32), (1, 3, 2, 2))


def test_ranges_grow_with_what_is_seen(onnx_model: Build) -> None:
    probe = RangeProbe(scaled(onnx_model))
    probe.add("images", images(1.0, 2.0))
    assert probe.ranges() == {"m": Range(-4.0, -2.0), "y": Range(0.0, 0.0)}
    probe.add("images", images(-3.0))
    assert probe.ranges() == {"m": Range(-4.0, 6.0), "y": Range(0.0, 6.0)}


def test_infinite_values_are_left_out_and_nan_is_named(onnx_model: Build) -> None:
    probe = RangeProbe(scaled(onnx_model, "Log"))
    probe.add("images", images(0.0))
    assert probe.ranges()["y"] == Range(0.0, 0.0)
    with pytest.raises(DataError, match="the tensor y holds NaN already in FP32"):
        probe.add("images", images(1.0))


def test_frames_are_fed_as_the_spec_says(onnx_model: Build) -> None:
    frame = np.full((2, 2, 3), 51, np.uint8)
    found = value_ranges(scaled(onnx_model), ModelSpec((2, 2), ("Car",)), [frame])
    assert found["m"].least == pytest.approx(-0.4)
    assert found["m"].magnitude == pytest.approx(0.4)


def test_a_range_is_joined_with_a_magnitude_of_either_sign() -> None:
    assert Range(-1.0, 3.0).joined(2.0) == Range(-2.0, 3.0)


def test_a_model_that_onnx_runtime_does_not_know_is_refused(onnx_model: Build) -> None:
    model = scaled(onnx_model)
    model.graph.node[1].op_type = "Swizzle"
    with pytest.raises(ArtifactError, match="Swizzle"):
        RangeProbe(model)
