import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.graph.lint import doubts, lint, refuse_broken
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


def test_grid_sampling_is_in_doubt_at_every_opset():
    (finding,) = doubts(sampler(16))
    assert str(finding).startswith("/decoder/sample: GridSample in a decoder lost three of four")
    assert finding.evidence == ("opset 16",)


@pytest.mark.parametrize(
    ("second", "evidence"),
    [
        ({"axis": 0}, ()),
        ({"axis": 1}, ("axis 0", "axis 1")),
        ({"axis": 0, "reverse": 1}, ("axis 0", "axis 0 reverse")),
    ],
)
def test_running_sums_that_differ_are_in_doubt(second, evidence):
    axes = [("one", np.array(0)), ("other", np.array(second.pop("axis")))]
    first = helper.make_node("CumSum", ["x", "one"], ["sum"], name="/first")
    last = helper.make_node("CumSum", ["sum", "other"], ["y"], name="/last", **second)
    found = doubts(graph([first, last], constants=axes))
    assert [f.evidence for f in found] == ([evidence] if evidence else [])


def test_shapes_that_depend_on_the_data_are_in_doubt():
    where = helper.make_node("NonZero", ["x"], ["places"], name="/where")
    cast = helper.make_node("Cast", ["places"], ["y"], to=TensorProto.FLOAT)
    (finding,) = doubts(graph([where, cast]))
    assert finding.nodes == ("/where",)
    assert "CUDA graph" in finding.reason


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


def layer_norm(square, half, opset=16):
    """A norm of FP32, or of FP16 between a cast at either end."""
    kind = np.float16 if half else np.float32
    first, last = ("x16", "y16") if half else ("x", "y")
    power = ["c", "two"] if square == "Pow" else ["c", "c"]
    nodes = [
        helper.make_node("ReduceMean", [first], ["m"], name="/norm/mean", axes=[-1]),
        helper.make_node("Sub", [first, "m"], ["c"]),
        helper.make_node(square, power, ["s"], name="/norm/square"),
        helper.make_node("ReduceMean", ["s"], ["v"], axes=[-1]),
        helper.make_node("Add", ["v", "eps"], ["w"]),
        helper.make_node("Sqrt", ["w"], ["d"]),
        helper.make_node("Div", ["c", "d"], [last]),
    ]
    if half:
        nodes.insert(0, helper.make_node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16))
        nodes.append(helper.make_node("Cast", ["y16"], ["y"], to=TensorProto.FLOAT))
    return graph(nodes, opset=opset, constants=[("two", kind(2)), ("eps", kind(1e-5))])


@pytest.mark.parametrize("square", ["Pow", "Mul"])
def test_a_spread_layer_norm_is_refused_where_it_squares_in_fp16(square):
    assert reasons(layer_norm(square, half=False)) == []
    (finding,) = lint(layer_norm(square, half=True))
    assert finding.nodes == ("/norm/mean",)
    assert "overflows in FP16" in finding.reason
    assert finding.evidence == (f"/norm/square ({square}) is FP16",)
    scale = ("one", np.ones(8, np.float32))
    node = helper.make_node("LayerNormalization", ["x", "one"], ["y"])
    assert reasons(graph([node], constants=[scale])) == []


def test_a_layer_norm_whose_squares_are_cast_to_fp32_is_fine():
    model = layer_norm("Pow", half=True)
    (square,) = (n for n in model.graph.node if n.name == "/norm/square")
    (root,) = (n for n in model.graph.node if n.op_type == "Sqrt")
    square.input[0], root.output[0] = "c32", "d32"
    for source, target, kind in (("c", "c32", "FLOAT"), ("d32", "d", "FLOAT16")):
        cast = helper.make_node("Cast", [source], [target], to=getattr(TensorProto, kind))
        makers = [source in n.output for n in model.graph.node]
        model.graph.node.insert(makers.index(True) + 1, cast)
    for constant in model.graph.initializer:
        values = numpy_helper.to_array(constant).astype(np.float32)
        constant.CopyFrom(numpy_helper.from_array(values, constant.name))
    assert reasons(model) == []


def best(k, size=5000):
    node = helper.make_node("TopK", ["x", "k"], ["y", "places"], name="/best")
    return graph([node], constants=[("k", [k])], inputs={"x": (TensorProto.FLOAT, [1, size])})


def test_top_k_must_be_known_and_small():
    assert reasons(best(3840)) == []
    assert reasons(best(3841)) == ["TopK"]
    assert lint(best(3841))[0].evidence == ("K 3841",)
    node = helper.make_node("TopK", ["x", "k"], ["y", "places"], name="/best")
    inputs = {"x": (TensorProto.FLOAT, [1, 9]), "n": (TensorProto.INT64, [1])}
    computed = graph([helper.make_node("Identity", ["n"], ["k"]), node], inputs=inputs)
    (first, second) = lint(computed)
    assert first.nodes == ("/best",)
    assert "computed" in first.reason
    assert second.nodes == ("n",)


def chosen(*nodes, shape=(1, 4, 8, 8), opset=17, **constants):
    """A TopK over the last side of x, whose K the nodes make."""
    made = [helper.make_node(op, reads, writes, **how) for op, reads, writes, how in nodes]
    made.append(helper.make_node("TopK", ["x", "k"], ["y", "places"], name="/best"))
    given = {"x": (TensorProto.FLOAT, shape)}
    return graph(made, opset=opset, constants=constants.items(), inputs=given)


@pytest.mark.parametrize(
    "model",
    [
        chosen(("Constant", [], ["k"], {"value_ints": [3]})),
        chosen(
            ("Constant", [], ["one"], {"value_int": 3}),
            ("Unsqueeze", ["one", "axes"], ["k"], {}),
            axes=np.array([0]),
        ),
        chosen(("Shape", ["rows"], ["k"], {}), rows=np.zeros(3, np.float32)),
        chosen(
            ("Shape", ["x"], ["sizes"], {}),
            ("Gather", ["sizes", "last"], ["side"], {}),
            ("Min", ["side", "most"], ["k"], {}),
            shape=("batch", 4, 8, 8),
            last=np.array([3]),
            most=np.array([300]),
        ),
        chosen(
            ("Shape", ["x"], ["side"], {"start": -1}),
            ("Cast", ["side"], ["real"], {"to": TensorProto.FLOAT}),
            ("Mul", ["real", "share"], ["few"], {}),
            ("Floor", ["few"], ["whole"], {}),
            ("Cast", ["whole"], ["k"], {"to": TensorProto.INT64}),
            share=np.float32(0.5),
        ),
    ],
    ids=["value_ints", "value_int", "shape of a constant", "of a side", "share of a side"],
)
def test_a_k_that_is_the_same_for_every_input_is_known(model):
    assert reasons(model) == []


@pytest.mark.parametrize(
    ("model", "source"),
    [
        (
            chosen(
                ("NonZero", ["x"], ["places_of"], {"name": "/nz"}),
                ("Shape", ["places_of"], ["k"], {"start": 1}),
            ),
            "a free size of places_of",
        ),
        (
            chosen(("Shape", ["x"], ["k"], {"start": 3}), shape=(1, 4, 8, "width")),
            "a free size of x",
        ),
    ],
)
def test_a_k_that_depends_on_the_input_is_refused_with_what_makes_it(model, source):
    (finding,) = lint(model)
    assert finding.nodes == ("/best",)
    assert finding.evidence == (f"its K comes from {source}",)


def test_a_k_that_is_folded_may_be_too_large():
    model = chosen(("Constant", [], ["k"], {"value_ints": [4000]}), shape=(1, 5000))
    assert lint(model)[0].evidence == ("K 4000",)


def test_int64_inside_is_fine_and_outside_is_not():
    cast = helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64)
    back = helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)
    assert reasons(graph([cast, back])) == []
    out = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT64)
    assert reasons(graph([out], kind=TensorProto.INT64)) == ["INT64"]


def test_a_constant_that_is_an_input_too_is_a_constant():
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    model = graph([node], constants=[("shape", np.array([4, 64]))])
    listed = helper.make_tensor_value_info("shape", TensorProto.INT64, [2])
    model.graph.input.append(listed)
    assert reasons(model) == []


def test_a_refusal_names_the_file_the_nodes_what_to_do_and_the_evidence():
    wanted = (
        r"m.onnx would break in TensorRT: /decoder/sample: GridSample .*-attention gather "
        r"\(found: opset 20\)"
    )
    with pytest.raises(GateError, match=wanted):
        refuse_broken(sampler(20), "m.onnx")
    refuse_broken(sampler(17), "m.onnx")
