"""Read and replace the query selections of an ONNX graph."""

import numpy as np
import pytest
from onnx import TensorProto

from edgedetr.export.verify.runners.onnx import selection_graph
from edgedetr.graph.exact import exact_session


@pytest.fixture
def chain(onnx_model):
    """Selects two of four numbers twice by the same scores."""
    return onnx_model(
        [
            ("Mul", "double", ["x", "two"], "a", {}),
            ("TopK", "first", ["a", "k"], ("top", "which"), {"axis": 1}),
            ("TopK", "second", ["a", "k"], ("unused", "again"), {}),
            ("GatherElements", "take", ["x", "again"], "y", {"axis": 1}),
        ],
        {"two": [2.0], "k": np.array([2])},
        inputs={"x": (1, 4)},
        outputs=("top", "y"),
    )


def test_the_selections_of_a_graph_become_outputs(chain):
    made = selection_graph(chain, forced=False)
    assert (made.scores, made.indices) == (("a", "a"), ("which", "again"))
    assert [o.name for o in made.model.graph.output] == ["top", "y", "which", "again", "a"]
    session = exact_session(made.model, "chain")
    x = np.array([[1, 4, 2, 3]], np.float32)
    top, _, which, again, a = session.run(None, {"x": x})
    assert (top.tolist(), which.tolist(), again.tolist()) == ([[8, 6]], [[1, 3]], [[1, 3]])
    assert a.tolist() == [[2, 8, 4, 6]]
    assert len(chain.graph.output) == 2  # the graph itself is left as it is


def test_the_selections_of_a_graph_become_inputs(chain):
    made = selection_graph(chain, forced=True)
    assert made.indices == ("which::forced", "again::forced")
    assert {i.name: i.type.tensor_type.elem_type for i in made.model.graph.input} == {
        "x": TensorProto.FLOAT,
        "which::forced": TensorProto.INT64,
        "again::forced": TensorProto.INT64,
    }
    feeds = {"x": np.array([[1, 4, 2, 3]], np.float32)}
    feeds |= dict(zip(made.indices, (np.array([[0, 2]]), np.array([[3, 3]])), strict=True))
    top, y, a = exact_session(made.model, "chain").run(None, feeds)
    assert (top.tolist(), y.tolist(), a.tolist()) == ([[2, 4]], [[3, 3]], [[2, 8, 4, 6]])
