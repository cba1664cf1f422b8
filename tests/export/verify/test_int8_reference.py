"""The ideally quantized twin of a graph, on numbers worked out by hand."""

import numpy as np
import onnx
import pytest

from edgedetr.export.verify.int8_reference import ideally_quantized
from edgedetr.graph.exact import exact_session
from edgedetr.graph.fp8 import FP8

WEIGHTS = np.array([[1.0, 0.3], [-0.5, 0.6]], np.float32)


@pytest.fixture
def pair(onnx_model):
    """A product, and the same product with a Q/DQ pair of a far too coarse scale."""

    def make(nodes, constants):
        return onnx_model(nodes, constants, inputs={"x": (1, 2)}, outputs=("y",))

    plain = make([("MatMul", "layer", ["x", "w"], "y", {})], {"w": WEIGHTS})
    quantized = make(
        [
            ("QuantizeLinear", "q", ["x", "s", "z"], "x8", {}),
            ("DequantizeLinear", "dq", ["x8", "s", "z"], "xd", {}),
            ("QuantizeLinear", "wq", ["w", "s", "z"], "w8", {}),
            ("DequantizeLinear", "wdq", ["w8", "s", "z"], "wd", {}),
            ("MatMul", "layer", ["xd", "wd"], "y", {}),
        ],
        {"w": WEIGHTS, "s": np.float32(100), "z": np.int8(0)},
    )
    return plain, quantized


def test_activations_and_channels_have_their_own_scales(pair):
    """The activations have steps of 4 / 127, the output channels of 1 / 127 and 0.6 / 127."""
    plain, quantized = pair
    before = plain.SerializeToString()
    ideal = ideally_quantized(plain, quantized)
    assert plain.SerializeToString() == before
    onnx.checker.check_model(ideal)
    x = np.array([[4.0, 1.0]], np.float32)
    (y,) = exact_session(ideal, "ideal").run(None, {"x": x})
    steps = np.array([1.0, 0.6]) / 127
    rounded = np.rint(x * 127 / 4) * 4 / 127 @ (np.rint(WEIGHTS / steps) * steps)
    np.testing.assert_allclose(y, rounded, rtol=1e-5)
    assert (y != x @ WEIGHTS).any()


def test_what_is_not_quantized_in_the_other_graph_stays_as_it_is(pair):
    plain, _ = pair
    ideal = ideally_quantized(plain, plain)
    assert [node.op_type for node in ideal.graph.node] == ["MatMul"]
    x = np.array([[4.0, 1.0]], np.float32)
    np.testing.assert_array_equal(exact_session(ideal, "ideal").run(None, {"x": x})[0], x @ WEIGHTS)


def test_uint8_of_the_other_graph_gives_a_zero_point(onnx_model):
    """From -1 to 4 a step is 5 / 255, and the 51st stands for 0."""
    layer: tuple[object, ...] = ("MatMul", "layer", ["x", "w"], "y", {})
    plain = onnx_model([layer], {"w": np.eye(2)}, inputs={"x": (1, 2)}, outputs=("y",))
    quantized = onnx_model(
        [
            ("QuantizeLinear", "q", ["x", "s", "z"], "x8", {}),
            ("DequantizeLinear", "dq", ["x8", "s", "z"], "xd", {}),
            ("MatMul", "layer", ["xd", "w"], "y", {}),
        ],
        {"w": np.eye(2), "s": np.float32(100), "z": np.uint8(3)},
        inputs={"x": (1, 2)},
        outputs=("y",),
    )
    x = np.array([[4.0, -1.0]], np.float32)
    (y,) = exact_session(ideally_quantized(plain, quantized), "ideal").run(None, {"x": x})
    np.testing.assert_allclose(y, x, atol=1e-6)
    x[0, 1] = -0.99
    (y,) = exact_session(ideally_quantized(plain, quantized), "ideal").run(None, {"x": x})
    step = 4.99 / 255
    np.testing.assert_allclose(y[0, 1], -0.99, atol=step / 2)


def test_fp8_has_scales_of_448_numbers(onnx_model):
    """Of an amax of 4.48 the steps are 0.01: 1.0 is 100 of them, which round to 96."""
    plain = onnx_model(
        [("MatMul", "layer", ["x", "w"], "y", {})],
        {"w": np.eye(2)},
        inputs={"x": (1, 2)},
        outputs=("y",),
    )
    quantized = onnx_model(
        [
            ("QuantizeLinear", "q", ["x", "s", "z"], "x8", {}),
            ("DequantizeLinear", "dq", ["x8", "s", "z"], "xd", {}),
            ("MatMul", "layer", ["xd", "w"], "y", {}),
        ],
        {"w": np.eye(2), "s": np.float32(9), "z": np.zeros((), FP8)},
        inputs={"x": (1, 2)},
        outputs=("y",),
        opset=19,
    )
    ideal = ideally_quantized(plain, quantized)
    (y,) = exact_session(ideal, "ideal").run(None, {"x": np.array([[4.48, 1.0]], np.float32)})
    np.testing.assert_allclose(y, [[4.48, 0.96]], rtol=1e-6)
