"""Scales and weights of INT8 layers, each judged by itself, on numbers worked out by hand."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.verify.quantizers import quantizer_faults
from edgedetr.graph.exact import exact_graph
from edgedetr.graph.fp8 import FP8, fp8_weights

X = np.array([[0.01, -0.02, 0.5, 1.0]], np.float32)
WEIGHTS = np.array([[0.3, -0.1], [0.2, 0.7], [-0.6, 0.4], [0.9, -0.8]], np.float32)


def model(nodes, constants):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def float_model(weights=WEIGHTS):
    nodes = [
        helper.make_node("Mul", ["x", "one"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "w"], ["y"], "layer"),
    ]
    return exact_graph(model(nodes, {"one": np.float32(1), "w": weights}))


def int8_model(scale, weights=WEIGHTS, *, zero=0, kind=np.int8, shape=()):
    """Quantize the input with a scale, and weights for each output column."""
    steps = np.abs(weights).max(0) / 127
    constants = {
        "one": np.float32(1),
        "s": np.full(shape, scale, np.float32),
        "z": np.full(shape, zero, kind),
        "w8": np.rint(weights / steps).astype(np.int8),
        "ws": steps.astype(np.float32),
        "wz": np.zeros(2, np.int8),
    }
    nodes = [
        helper.make_node("Mul", ["x", "one"], ["a"], "first"),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["a8"], "q"),
        helper.make_node("DequantizeLinear", ["a8", "s", "z"], ["ad"], "dq"),
        helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], "wdq", axis=1),
        helper.make_node("MatMul", ["ad", "w"], ["y"], "layer"),
    ]
    return exact_graph(model(nodes, constants))


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_calibrated_graph_has_no_fault(shape):
    graphs = float_model(), int8_model(1 / 127, shape=shape)
    assert quantizer_faults(*graphs, [{"x": X}]) == ()


def test_a_range_that_clips_much_more_than_it_rounds_is_named():
    # A scale of 0.004 ends at 0.508: 1.0 loses 0.492. The others lose 0.002, 0 and 0.
    (fault,) = quantizer_faults(float_model(), int8_model(0.004), [{"x": X}])
    ratio = 0.492**2 / (0.002**2 + 1e-6 * float((X.astype(np.float64) ** 2).sum()))
    assert fault == (
        f"the INT8 range at first is too narrow: its clipping error is {ratio:.3g} times its "
        "rounding error, wanted at most 8"
    )


def test_one_frame_of_three_with_an_outlier_is_no_fault():
    outlier = X * np.float32(2)
    graphs = float_model(), int8_model(1 / 127)
    assert quantizer_faults(*graphs, [{"x": X}, {"x": outlier}, {"x": X}]) == ()
    assert len(quantizer_faults(*graphs, [{"x": X}, {"x": outlier}, {"x": outlier}])) == 1


def test_unsigned_ranges_end_at_their_own_bounds():
    # uint8 with a zero point of 128 reaches from -128 to 127 steps, with 0 only from 0 to 255.
    feeds = [{"x": np.abs(X)}]
    assert not quantizer_faults(float_model(), int8_model(1 / 255, kind=np.uint8), feeds)
    moved = int8_model(1 / 255, zero=128, kind=np.uint8)
    assert "range at first is too narrow" in quantizer_faults(float_model(), moved, feeds)[0]


@pytest.mark.parametrize(("columns", "off"), [([0, 1], 0), ([1, 0], 2)])
def test_swapped_channels_are_found_without_any_frame(columns, off):
    candidate = int8_model(1 / 127, WEIGHTS[:, columns])
    found = quantizer_faults(float_model(), candidate, [{"x": X}])
    wanted = (
        "the INT8 weights of layer are not the rounded weights of the reference: 2 channels off"
    )
    assert found == ((wanted,) if off else ())


def test_weights_of_another_shape_are_all_off():
    candidate = int8_model(1 / 127)
    other = float_model(np.zeros((4, 3), np.float32))
    (fault,) = quantizer_faults(other, candidate, [{"x": X}])
    assert fault.endswith("2 channels off")


def test_float_candidates_and_int8_references_are_not_judged():
    narrow = int8_model(0.001)
    assert quantizer_faults(float_model(), float_model(), [{"x": X}]) == ()
    assert quantizer_faults(narrow, narrow, [{"x": X}]) == ()


def fp8_model(scale, weights=WEIGHTS):
    """Round the input with a scale, and weights with one for each output column."""
    rounded, scales = fp8_weights(weights, 1)
    constants = {
        "one": np.float32(1),
        "s": np.float32(scale),
        "z": np.zeros((), FP8),
        "w8": rounded,
        "ws": scales,
        "wz": np.zeros(2, FP8),
    }
    nodes = [
        helper.make_node("Mul", ["x", "one"], ["a"], "first"),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["a8"], "q"),
        helper.make_node("DequantizeLinear", ["a8", "s", "z"], ["ad"], "dq"),
        helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], "wdq", axis=1),
        helper.make_node("MatMul", ["ad", "w"], ["y"], "layer"),
    ]
    made = model(nodes, constants)
    made.opset_import[0].version = 19
    return exact_graph(made)


def test_fp8_that_calibration_gives_has_no_fault():
    assert quantizer_faults(float_model(), fp8_model(1 / 448), [{"x": X}]) == ()


def test_a_narrow_range_of_fp8_is_a_fault():
    """A tenth of the range clips 1.0 to 0.1 and 0.5 likewise; nothing else is off by a tenth."""
    (fault,) = quantizer_faults(float_model(), fp8_model(0.1 / 448), [{"x": X}])
    assert fault.startswith("the FP8 range at first is too narrow: its clipping error is")


def test_other_weights_in_fp8_are_a_fault():
    (fault,) = quantizer_faults(float_model(), fp8_model(1 / 448, WEIGHTS[::-1]), [{"x": X}])
    assert fault == (
        "the FP8 weights of layer are not the rounded weights of the reference: 2 channels off"
    )
