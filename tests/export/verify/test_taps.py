"""Tensors inside a graph, and its blocks on the inputs that they have in another."""

import numpy as np
import onnx
import pytest

from edgedetr.export.verify.taps import FED, Tensor, activations, cut_into_blocks, parts, tapped


@pytest.fixture
def chain(onnx_model):
    """Three blocks in a row, the second of which chooses the two largest of four numbers."""
    return onnx_model(
        [
            ("MatMul", "/net/first/MatMul", ["x", "w"], "a", {}),
            ("TopK", "/net/second/TopK", ["a", "two"], ("top", "which"), {}),
            ("GatherElements", "/net/second/Gather", ["a", "which"], "b", {"axis": 1}),
            ("MatMul", "/net/third/MatMul", ["b", "v"], "c", {}),
            ("Add", "/net/third/Add", ["c", "bias"], "y", {}),
        ],
        {
            "w": np.eye(4),
            "v": np.ones((2, 2)),
            "two": np.array([2]),
            "bias": np.array([[1.0, 2.0]]),
        },
        inputs={"x": (1, 4)},
        outputs=("y",),
    )


NAMED = {
    "/net/first/MatMul": "first",
    "/net/second/TopK": "second",
    "/net/second/Gather": "second",
    "/net/third/MatMul": "third",
    "/net/third/Add": "third",
}


def test_activations_depend_on_the_input_and_know_their_size(chain):
    found = activations(chain)
    assert list(found) == ["a", "top", "which", "b", "c", "y"]
    assert found["a"] == Tensor("a", "/net/first/MatMul", onnx.TensorProto.FLOAT, 16)
    assert found["which"].size_bytes == 16


def test_parts_hold_no_more_than_they_may():
    tensors = [Tensor(name, "", 1, 40) for name in "abcde"]
    assert list(parts(tensors, 100)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(parts(tensors, 1)) == [["a"], ["b"], ["c"], ["d"], ["e"]]
    assert list(parts([], 1)) == []


def test_a_graph_runs_only_as_far_as_it_must(chain):
    x = np.array([[1, 2, 3, 4]], np.float32)
    (values,) = tapped(chain, ["b"], [{"x": x}], "chain")
    np.testing.assert_array_equal(values["b"], [[4, 3]])
    chain.graph.node[3].input[1] = "nothing"  # what comes after is not even looked at
    (values,) = tapped(chain, ["a"], [{"x": x}], "chain")
    np.testing.assert_array_equal(values["a"], x)


def test_every_block_reads_what_it_is_given(chain):
    cut = cut_into_blocks(chain, NAMED, activations(chain))
    assert cut.outputs == {"first": ["a"], "second": ["which", "b"], "third": ["y"]}
    assert cut.fed == {"first": [], "second": ["a", "which"], "third": ["b"]}
    given: dict[str, np.ndarray] = {
        "a" + FED: np.array([[1, 2, 3, 4]], np.float32),
        "which" + FED: np.array([[0, 1]], np.int64),
        "b" + FED: np.array([[1, 1]], np.float32),
    }
    (values,) = tapped(cut.model, ["b", "y"], [given], "chain")
    np.testing.assert_array_equal(values["b"], [[1, 2]])  # the choice was given as well
    np.testing.assert_array_equal(values["y"], [[3, 4]])


def test_what_only_one_graph_has_flows_on(chain):
    """A tensor that the other graph lacks is not cut, and its node belongs to its reader."""
    other = activations(chain)
    extra = onnx.helper.make_node("Relu", ["b"], ["b2"], "extra")
    chain.graph.node.insert(3, extra)
    chain.graph.node[4].input[0] = "b2"
    cut = cut_into_blocks(chain, NAMED, other)
    assert cut.block_of["extra"] == "third"
    assert cut.fed["third"] == ["b"]
