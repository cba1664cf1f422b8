"""Graphs are computed in the precision that they are typed in."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.graph.exact import coarsest_precision, exact_graph, exact_session, run_session
from edgedetr.runtime.errors import ArtifactError


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


@pytest.mark.parametrize("fused", ["all", "basic", "none"])
@pytest.mark.parametrize("in_order", [True, False])
def test_how_nodes_are_fused_and_ordered_does_not_change_the_numbers(onnx_model, fused, in_order):
    model = onnx_model(
        [
            ("QuantizeLinear", "", ["x", "scale", "zero"], "q", {}),
            ("DequantizeLinear", "", ["q", "scale", "zero"], "d", {}),
            ("Add", "", ["d", "d"], "y", {}),
        ],
        {"scale": np.array(0.5), "zero": np.array(0, np.int8)},
        inputs={"x": (3,)},
        outputs=["y"],
    )
    session = exact_session(model, "net", fused=fused, in_order=in_order)
    x = np.array([0.3, -0.8, 100], np.float32)
    (found,) = run_session(session, ["y"], {"x": x}, "net")
    np.testing.assert_array_equal(found, [1, -2, 127])


def test_the_coarsest_numbers_are_the_precision(onnx_model, tiny_onnx):
    constants = {"scale": np.array(0.5), "zero": np.array(0, np.int8), "w": np.zeros(3, np.int8)}
    nodes: list[tuple[object, ...]] = [
        ("DequantizeLinear", "", ["w", "scale", "zero"], "d", {}),
        ("Add", "", ["x", "d"], "y", {}),
    ]
    int8 = onnx_model(nodes, constants, inputs={"x": (3,)}, outputs=["y"])
    assert coarsest_precision(int8) == "int8"
    assert coarsest_precision(half_model(2)) == "fp16"
    assert coarsest_precision(onnx.load(tiny_onnx())) == "fp32"


def test_what_cannot_be_loaded_or_run_is_named(onnx_model):
    nodes: list[tuple[object, ...]] = [("Reshape", "", ["x", "shape"], "y", {})]
    model = onnx_model(nodes, {"shape": np.array([-1])}, inputs={"x": ("n",)}, outputs=["y"])
    session = exact_session(model, "net.onnx")
    with pytest.raises(ArtifactError, match=r"net\.onnx: ONNX Runtime cannot run it: "):
        run_session(session, None, {"x": np.zeros((2, 2), np.float32)}, "net.onnx")
    model.graph.node[0].op_type = "Swizzle"
    with pytest.raises(ArtifactError, match=r"net\.onnx: ONNX Runtime cannot load it, .*Swizzle"):
        exact_session(model, "net.onnx")
