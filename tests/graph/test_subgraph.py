"""A part of a graph answers as the whole does, and holds nothing else."""

import numpy as np
import onnx
from onnx import helper

from edgedetr.graph.exact import exact_session
from edgedetr.graph.subgraph import ending_at


def test_a_part_holds_what_its_outputs_need(onnx_model):
    model = onnx_model(
        [
            ("Mul", "first", ["x", "two"], "a", {}),
            ("Add", "second", ["a", "one"], "b", {}),
            ("Mul", "apart", ["z", "ten"], "c", {}),
        ],
        {"two": np.array([2.0]), "one": np.array([1.0]), "ten": np.array([10.0])},
        inputs={"x": (1,), "z": (1,)},
        outputs=["b", "c"],
    )
    part = ending_at(model, ["b", "a"])
    assert [n.name for n in part.graph.node] == ["first", "second"]
    assert {t.name for t in part.graph.initializer} == {"two", "one"}
    assert [i.name for i in part.graph.input] == ["x"]
    found = exact_session(part, "part").run(None, {"x": np.array([3], np.float32)})
    assert [float(a[0]) for a in found] == [7, 6]


def test_what_only_a_branch_reads_is_kept():
    def body(name):
        out = helper.make_tensor_value_info(f"{name}_out", onnx.TensorProto.FLOAT, [1])
        return helper.make_graph(
            [helper.make_node("Identity", [name], [f"{name}_out"])], name, [], [out]
        )

    nodes = [
        helper.make_node("Neg", ["x"], ["n"], "negative"),
        helper.make_node("If", ["flag"], ["y"], then_branch=body("x"), else_branch=body("n")),
    ]
    value = helper.make_tensor_value_info
    inputs = [value("x", onnx.TensorProto.FLOAT, [1]), value("flag", onnx.TensorProto.BOOL, [])]
    outputs = [value("y", onnx.TensorProto.FLOAT, [1])]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs))
    part = ending_at(model, ["y"])
    assert [n.op_type for n in part.graph.node] == ["Neg", "If"]
    assert [i.name for i in part.graph.input] == ["x", "flag"]
