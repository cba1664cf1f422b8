"""FP16 graphs on the CPU, as they are typed."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedetr.graph.exact import exact_graph, exact_session


def half_model(factor):
    """Multiply by a factor in FP16, and divide by it again."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["a"], "down", to=TensorProto.FLOAT16),
            helper.make_node("Mul", ["a", "factor"], ["b"], "times"),
            helper.make_node("Div", ["b", "factor"], ["c"], "by"),
            helper.make_node("Cast", ["c"], ["y"], "up", to=TensorProto.FLOAT),
        ],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [numpy_helper.from_array(np.array([factor], np.float16), "factor")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_fp16_is_rounded_and_overflows_as_it_is_typed():
    x = np.array([1.2345678, 100, 3.3333333, 1e-3], np.float32)
    exact = exact_graph(half_model(1000))
    assert exact.precision == "fp16"
    assert exact.half == {"a", "b", "c"}
    (found,) = exact_session(exact.model, "half").run(None, {"x": x})
    with np.errstate(over="ignore"):
        wanted = x.astype(np.float16) * np.float16(1000) / np.float16(1000)
    np.testing.assert_array_equal(found, wanted.astype(np.float32))
    assert np.isinf(found[1])
    assert found[0] != x[0]


def test_what_is_not_fp16_stays_as_it_is(tiny_onnx):
    model = onnx.load(tiny_onnx())
    assert exact_graph(model).model is model
