import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.graph_lint import lint, refuse_broken
from edgedetr.runtime.errors import GateError


def graph(nodes, *, opset=17, constants=(), kind=TensorProto.FLOAT, inputs=None):
    """A model from nodes; x of (1, 4, 8, 8) goes in, y comes out."""
    given = inputs or {"x": (TensorProto.FLOAT, [1, 4, 8, 8])}
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(n, t, s) for n, (t, s) in given.items()],
            [helper.make_tensor_value_info("y", kind, [])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
    )


def reasons(model):
    onnx.checker.check_model(model)
    return [finding.reason.partition(" ")[0] for finding in lint(model)]


def sampler(opset):
    grid = np.zeros((1, 2, 2, 2), np.float32)
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], name="/decoder/sample")
    return graph([node], opset=opset, constants=[("grid", grid)])


def test_grid_sampling_is_refused_from_opset_20():
    assert reasons(sampler(17)) == []
    assert reasons(sampler(19)) == []
    assert reasons(sampler(20)) == ["GridSample"]


@pytest.mark.parametrize(("kind", "found"), [(np.int32, ["DequantizeLinear"]), (np.int8, [])])
@pytest.mark.parametrize("constant", [True, False])
def test_int32_is_not_dequantized(kind, found, constant):
    scale = ("scale", np.float32(0.1))
    bias = ("bias", np.zeros(4, kind))
    node = helper.make_node("DequantizeLinear", ["bias", "scale"], ["y"], name="/bias")
    if constant:
        assert reasons(graph([node], constants=[scale, bias])) == found
        return
    of = {np.int32: TensorProto.INT32, np.int8: TensorProto.INT8}[kind]
    first = helper.make_node("Identity", ["x"], ["bias"])
    model = graph([first, node], constants=[scale], inputs={"x": (of, [4])})
    assert reasons(model) == found


def layer_norm(square):
    power = ["c", "two"] if square == "Pow" else ["c", "c"]
    return graph(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], name="/norm/mean", axes=[-1]),
            helper.make_node("Sub", ["x", "m"], ["c"]),
            helper.make_node(square, power, ["s"]),
            helper.make_node("ReduceMean", ["s"], ["v"], axes=[-1]),
            helper.make_node("Add", ["v", "eps"], ["w"]),
            helper.make_node("Sqrt", ["w"], ["d"]),
            helper.make_node("Div", ["c", "d"], ["y"]),
        ],
        constants=[("two", np.float32(2)), ("eps", np.float32(1e-5))],
    )


@pytest.mark.parametrize("square", ["Pow", "Mul"])
def test_a_spread_layer_norm_is_refused_and_one_node_is_not(square):
    (finding,) = lint(layer_norm(square))
    assert finding.nodes == ("/norm/mean",)
    assert "overflows in FP16" in finding.reason
    scale = ("one", np.ones(8, np.float32))
    node = helper.make_node("LayerNormalization", ["x", "one"], ["y"])
    assert reasons(graph([node], constants=[scale])) == []


def best(k, size=5000):
    node = helper.make_node("TopK", ["x", "k"], ["y", "places"], name="/best")
    return graph([node], constants=[("k", [k])], inputs={"x": (TensorProto.FLOAT, [1, size])})


def test_top_k_must_be_known_and_small():
    assert reasons(best(3840)) == []
    assert reasons(best(3841)) == ["TopK"]
    node = helper.make_node("TopK", ["x", "k"], ["y", "places"], name="/best")
    inputs = {"x": (TensorProto.FLOAT, [1, 9]), "n": (TensorProto.INT64, [1])}
    computed = graph([helper.make_node("Identity", ["n"], ["k"]), node], inputs=inputs)
    (first, second) = lint(computed)
    assert first.nodes == ("/best",)
    assert "computed" in first.reason
    assert second.nodes == ("n",)


def test_int64_inside_is_fine_and_outside_is_not():
    cast = helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64)
    back = helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)
    assert reasons(graph([cast, back])) == []
    out = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT64)
    assert reasons(graph([out], kind=TensorProto.INT64)) == ["INT64"]


def test_a_refusal_names_the_file_the_nodes_and_what_to_do():
    wanted = r"m.onnx would break in TensorRT: /decoder/sample: GridSample .*-attention gather"
    with pytest.raises(GateError, match=wanted):
        refuse_broken(sampler(20), "m.onnx")
    refuse_broken(sampler(17), "m.onnx")
