"""Q and DQ nodes, and the constants that they read, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, TensorProto, helper, numpy_helper

from edgedetr.export.transforms.qdq_nodes import NodeMaker
from edgedetr.graph.int8 import Grid


@pytest.fixture
def graph() -> GraphProto:
    """A graph with an input, a node and a weight, whose names are taken."""
    value = helper.make_tensor_value_info
    return helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "net",
        [value("x", TensorProto.FLOAT, [2])],
        [value("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.ones(1, np.float32), "w")],
    )


def constants_of(graph: GraphProto) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t).tolist() for t in graph.initializer if t.name != "w"}


def test_a_pair_reads_its_scale_and_a_zero_point_that_others_share(graph: GraphProto) -> None:
    maker = NodeMaker(graph)
    pairs = [
        maker.pair("x", Grid(0.5)),
        maker.pair("y", Grid(0.25)),
        maker.pair("z", Grid(0.5, 3, is_signed=False)),
    ]
    assert [(list(q.input), list(d.input), list(d.output)) for q, d in pairs] == [
        (
            [tensor, f"{tensor}_scale", zero],
            [f"{tensor}_quantized", f"{tensor}_scale", zero],
            [f"{tensor}_dequantized"],
        )
        for tensor, zero in (
            ("x", "int8_zero_point"),
            ("y", "int8_zero_point"),
            ("z", "uint8_3_zero_point"),
        )
    ]
    assert constants_of(graph) == {
        "int8_zero_point": 0,
        "x_scale": 0.5,
        "y_scale": 0.25,
        "uint8_3_zero_point": 3,
        "z_scale": 0.5,
    }


def test_weights_are_stored_as_int8_with_a_scale_for_each_channel(graph: GraphProto) -> None:
    """The steps are 2 / 127 and 0.5 / 127; a channel whose bias wants 1 a step gets 1."""
    maker = NodeMaker(graph)
    values = np.array([[2.0, -1.003], [0.5, 0.1], [3.2, 0.4]], np.float32)
    node = maker.weight("k", values, 0, np.array([0, 0, 1], np.float32))
    assert list(node.input) == ["k_quantized", "k_scale", "k_zero_point"]
    assert (list(node.output), node.attribute[0].name, node.attribute[0].i) == (
        ["k_dequantized"],
        "axis",
        0,
    )
    found = constants_of(graph)
    assert found["k_quantized"] == [[127, -64], [127, 25], [3, 0]]
    assert found["k_scale"] == pytest.approx([2 / 127, 0.5 / 127, 1])
    assert found["k_zero_point"] == [0, 0, 0]


def test_a_name_that_is_taken_gets_a_number(graph: GraphProto) -> None:
    maker = NodeMaker(graph)
    assert [maker.name(n) for n in ("x", "x", "y", "w", "new", "new")] == [
        *("x_2", "x_3", "y_2", "w_2", "new", "new_2"),
    ]
