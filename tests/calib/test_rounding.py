"""Which activations are rounded for which target, with values worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedetr.calib.placement import default_points, points
from edgedetr.calib.rounding import roundings
from edgedetr.calib.stats import TensorRange
from edgedetr.graph.int8 import Grid, asymmetric_grid
from edgedetr.graph.wiring import Wiring
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from edgedetr.calib.rounding import Rounding
    from edgedetr.calib.targets import Target

    Build = Callable[..., onnx.ModelProto]

W = np.eye(16).reshape(16, 16, 1, 1)


def residual(onnx_model: Build) -> Wiring:
    """``stem`` -> ``x``; ``one`` -> ReLU -> ``two`` -> addition of ``x`` -> ReLU ``z``."""
    model = onnx_model(
        [
            ("Conv", "stem", ["images", "w"], "x", {}),
            ("Conv", "one", ["x", "w"], "a", {}),
            ("Relu", "relu", ["a"], "r", {}),
            ("Conv", "two", ["r", "w"], "b", {}),
            ("Add", "sum", ["b", "x"], "s", {}),
            ("Relu", "last", ["s"], "z", {}),
            ("Sigmoid", "end", ["z"], "y", {}),
        ],
        {"w": W},
        inputs={"images": (1, 16, 4, 4)},
        outputs=["y"],
    )
    return Wiring(model.graph)


def planned(wiring: Wiring, target: Target, low: float | None = -1.0) -> dict[str, Rounding]:
    high = None if low is None else 4.1
    ranges = [TensorRange(name, 2.54, 5.0, low, high) for name in wiring.producer]
    return roundings(wiring, default_points(points(wiring, target), target), ranges, target)


def test_tensorrt_reads_int8_and_absorbs_the_skip(onnx_model: Build) -> None:
    plan = planned(residual(onnx_model), "tensorrt")
    assert {name: set(p.readers) for name, p in plan.items()} == {"x": {1, 4}, "r": {3}}
    assert {p.grid for p in plan.values()} == {Grid(2.54 / 127)}


def test_openvino_rounds_the_same_to_uint8(onnx_model: Build) -> None:
    """From -1 to 4.1 a step is 0.02, and the 50th stands for 0."""
    plan = planned(residual(onnx_model), "openvino")
    assert set(plan) == {"x", "r"}
    assert plan["x"].grid == asymmetric_grid(-1.0, 4.1)
    assert plan["x"].grid.scale == pytest.approx(0.02)
    assert plan["x"].grid.zero == 50


def test_onnx_runtime_rounds_results_behind_their_relu_and_sums(onnx_model: Build) -> None:
    plan = planned(residual(onnx_model), "onnxruntime")
    assert {name: set(p.readers) for name, p in plan.items()} == {
        "x": {1, 4},
        "r": {3},
        "b": {4},
        "z": {6},
    }


def test_what_a_concat_joins_shares_the_widest_range(onnx_model: Build) -> None:
    model = onnx_model(
        [
            ("Conv", "stem", ["images", "w"], "x", {}),
            ("Relu", "relu", ["x"], "r", {}),
            ("Concat", "joined", ["x", "r"], "c", {"axis": 1}),
            ("Conv", "two", ["c", "w2"], "y", {}),
        ],
        {"w": W, "w2": np.ones((16, 32, 1, 1))},
        inputs={"images": (1, 16, 4, 4)},
        outputs=["y"],
    )
    wiring = Wiring(model.graph)
    ends = {"x": (-2.0, 3.0), "r": (0.0, 3.1), "c": (-1.0, 3.0)}
    ranges = [TensorRange(name, 1.0, 4.0, *both) for name, both in ends.items()]
    chosen = default_points(points(wiring, "openvino"), "openvino")
    plan = roundings(wiring, chosen, ranges, "openvino")
    assert {name: p.grid for name, p in plan.items()} == dict.fromkeys(
        ends, asymmetric_grid(-2.0, 3.1)
    )


def test_a_calibration_without_uint8_ranges_serves_tensorrt_alone(onnx_model: Build) -> None:
    wiring = residual(onnx_model)
    assert set(planned(wiring, "tensorrt", None)) == {"x", "r"}
    with pytest.raises(ArtifactError, match="no uint8 range for x, which openvino needs"):
        planned(wiring, "openvino", None)


def test_fp8_takes_all_that_calibration_saw(onnx_model: Build) -> None:
    """448 stands for 5.0, where INT8's 127 stands for 2.54."""
    wiring = residual(onnx_model)
    ranges = [TensorRange(name, 2.54, 5.0) for name in wiring.producer]
    chosen = default_points(points(wiring))
    plan = roundings(wiring, chosen, ranges, "tensorrt", "fp8")
    assert {p.grid for p in plan.values()} == {Grid(5.0 / 448, is_float=True)}
    assert {p.grid.kind for p in plan.values()} == {"fp8"}
