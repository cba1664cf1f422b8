"""What makes a tensor, what reads it and what is constant, on small graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.graph.wiring import Wiring, element_types, label, parameters, reads

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    Build = Callable[..., onnx.ModelProto]


@pytest.fixture
def model(onnx_model: Build) -> onnx.ModelProto:
    """Return images -> fc -> (bias) -> TopK, and a side branch that depends on none of it."""
    two = numpy_helper.from_array(np.array([2], np.int64))
    return onnx_model(
        [
            ("MatMul", "fc", ["images", "w"], "m", {}),
            ("Add", "", ["m", "bias"], "rows", {}),
            ("Constant", "", [], "k", {"value": two}),
            ("Identity", "", ["k"], "same k", {}),
            ("TopK", "best", ["rows", "same k"], ("scores", "index"), {}),
            ("Relu", "late", ["scores"], "late", {}),
            ("Relu", "side", ["images"], "side", {}),
        ],
        {"w": np.eye(4), "bias": np.zeros(4)},
        inputs={"images": (1, 4)},
        outputs=["late", "side"],
    )


def test_who_makes_and_who_reads_a_tensor(model: onnx.ModelProto) -> None:
    wiring = Wiring(model.graph)
    assert wiring.inputs == ["images"]
    assert wiring.producer["scores"] == wiring.producer["index"] == 4
    assert wiring.readers["images"] == [0, 6]
    assert "late" not in wiring.readers


def test_the_source_of_a_tensor_lies_behind_its_casts(onnx_model: Build) -> None:
    graph = onnx_model(
        [
            ("Relu", "first", ["images"], "x", {}),
            ("Cast", "down", ["x"], "x16", {"to": TensorProto.FLOAT16}),
            ("Cast", "up", ["x16"], "x32", {"to": TensorProto.FLOAT}),
            ("Cast", "of input", ["images"], "images16", {"to": TensorProto.FLOAT16}),
        ],
        {},
        inputs={"images": (1, 4)},
        outputs=["x32"],
    ).graph
    wiring = Wiring(graph)
    assert [wiring.source(name) for name in ("x32", "x")] == [graph.node[0], graph.node[0]]
    assert wiring.source("images16") is None


def test_constants_behind_constant_and_identity_nodes_are_known(model: onnx.ModelProto) -> None:
    constants = Wiring(model.graph).constants
    assert set(constants) == {"w", "bias", "k", "same k"}
    assert numpy_helper.to_array(constants["same k"]).tolist() == [2]


def test_what_depends_on_an_operator_or_on_a_node(model: onnx.ModelProto) -> None:
    wiring = Wiring(model.graph)
    assert wiring.downstream(["TopK"]) == {4, 5}
    assert wiring.behind([0]) == {0, 1, 4, 5}
    assert wiring.downstream(["Conv"]) == set()


def test_parameters_are_a_nodes_constants_and_the_bias_behind_it(model: onnx.ModelProto) -> None:
    wiring = Wiring(model.graph)
    assert parameters(0, wiring) == ["w", "bias"]
    assert parameters(6, wiring) == []


def test_a_node_without_a_name_goes_by_its_output(model: onnx.ModelProto) -> None:
    assert [label(node) for node in model.graph.node[:2]] == ["fc", "rows"]


def test_a_branch_reads_what_its_bodies_read() -> None:
    def body(name: str) -> onnx.GraphProto:
        node = helper.make_node("Relu", [name], ["out"])
        return helper.make_graph([node], name, [], [helper.make_empty_tensor_value_info("out")])

    node = helper.make_node("If", ["flag"], ["y"], then_branch=body("a"), else_branch=body("b"))
    assert reads(node) == {"flag", "a", "b"}


def test_types_of_inputs_constants_and_results(model: onnx.ModelProto) -> None:
    types = element_types(model)
    assert types["images"] == types["w"] == types["scores"] == TensorProto.FLOAT
    assert types["index"] == types["k"] == TensorProto.INT64
