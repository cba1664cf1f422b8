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


def joined(onnx_model: Build) -> tuple[Wiring, list[TensorRange]]:
    """``x`` and its ReLU ``r`` are joined into ``c``, which a convolution reads."""
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
    ends = {"x": (-2.0, 3.0), "r": (0.0, 3.1), "c": (-1.0, 3.0)}
    ranges = [TensorRange(name, 1.0, 4.0, *both) for name, both in ends.items()]
    return Wiring(model.graph), ranges


def test_what_a_concat_joins_shares_the_widest_range(onnx_model: Build) -> None:
    wiring, ranges = joined(onnx_model)
    chosen = default_points(points(wiring, "onnxruntime"), "onnxruntime")
    plan = roundings(wiring, chosen, ranges, "onnxruntime")
    assert {name: p.grid for name, p in plan.items()} == dict.fromkeys(
        ["x", "r", "c"], asymmetric_grid(-2.0, 3.1)
    )


def test_in_openvino_parts_of_a_concat_are_not_rounded(onnx_model: Build) -> None:
    wiring, ranges = joined(onnx_model)
    chosen = default_points(points(wiring, "openvino"), "openvino")
    plan = roundings(wiring, chosen, ranges, "openvino")
    assert {name: p.grid for name, p in plan.items()} == {"c": asymmetric_grid(-1.0, 3.0)}


def gathering(onnx_model: Build) -> Wiring:
    """``a`` becomes ``rows``; ``best`` says which of them attention gathers, and which it shows."""
    model = onnx_model(
        [
            ("Conv", "/encoder/stem", ["images", "w"], "x", {}),
            ("Conv", "/encoder/one", ["x", "w"], "a", {}),
            ("Reshape", "flat", ["a", "flat"], "rows", {}),
            ("ReduceMax", "scores", ["rows"], "s", {"axes": [1], "keepdims": 0}),
            ("TopK", "topk", ["s", "k"], ("t", "best"), {}),
            ("Gather", "/decoder/select", ["rows", "best"], "queries", {}),
            ("Gather", "/decoder/encoder_attn/Gather", ["rows", "best"], "g", {}),
            ("Gather", "/decoder/encoder_attn/Gather_1", ["queries", "best"], "h", {}),
            ("Concat", "end", ["queries", "g", "h"], "y", {"axis": 0}),
        ],
        {"w": W, "flat": np.array([16, 16]), "k": np.array([2])},
        inputs={"images": (1, 16, 4, 4)},
        outputs=["y"],
    )
    return Wiring(model.graph)


def test_openvino_gathers_rows_of_the_image_as_uint8(onnx_model: Build) -> None:
    """Attention does; the choice of queries and rows of queries stay float."""
    wiring = gathering(onnx_model)
    assert {n: set(p.readers) for n, p in planned(wiring, "openvino").items()} == {
        "x": {1},
        "rows": {6},
    }
    assert set(planned(wiring, "tensorrt")) == {"x"}
    assert "rows" not in planned(wiring, "onnxruntime")


def test_rows_that_a_float_layer_makes_stay_float(onnx_model: Build) -> None:
    wiring = gathering(onnx_model)
    ranges = [TensorRange(name, 2.54, 5.0, -1.0, 4.1) for name in wiring.producer]
    assert roundings(wiring, [], ranges, "openvino") == {}


def test_a_calibration_without_a_range_of_the_rows_leaves_them_float(onnx_model: Build) -> None:
    wiring = gathering(onnx_model)
    chosen = default_points(points(wiring, "openvino"), "openvino")
    plan = roundings(wiring, chosen, [TensorRange("x", 2.54, 5.0, -1.0, 4.1)], "openvino")
    assert set(plan) == {"x"}


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
