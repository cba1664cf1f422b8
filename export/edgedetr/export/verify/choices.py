"""Compare two FP32 models with one choice of queries where both choose among equals.

A detector that chooses its queries takes the Q best of some thousand places. Before training, and
after little of it, they score alike to the last bits, so that any rounding changes the choice and
with it all that comes after. That is no fault of an export. So on a frame where two models differ,
the second runs again with the choices of the first. It is *tied* where what stands before each
choice is then the same, so that both choices are right, and all that comes after agrees as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgedetr.graph.wiring import replace_items
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Answer = tuple[NDArray[np.float32], NDArray[np.float32]]

SAME = 1e-3
"""How far two scores before a choice may be apart, absolutely or relative to their size."""


@dataclass(frozen=True, eq=False)
class Choice:
    """One choice of the k best.

    Attributes:
        scores: What it was made by, any shape.
        indices: What was taken, int64, of the shape of the result.
    """

    scores: NDArray[np.float32]
    indices: NDArray[np.int64]


@runtime_checkable
class Chooser(Protocol):
    """A model whose choices can be read and made for it."""

    def choose(
        self, images: NDArray[np.float32], forced: Sequence[Choice] = ()
    ) -> tuple[Answer, list[Choice]]:
        """Return what it answers and how it chose, in order.

        Args:
            images: Network input (1, 3, H, W).
            forced: The choices to make instead of its own; its own when empty.

        Raises:
            ChoiceError: If it does not take one image, or chooses in another number of places or
                sizes.
            ArtifactError: If its choices cannot be read.
        """
        ...


class ChoiceError(Exception):
    """Two models do not choose in the same places."""


def same_choice(
    a: Chooser, b: Chooser, images: NDArray[np.float32]
) -> tuple[Answer, Answer] | None:
    """Let a second model answer with the choices of the first.

    Returns:
        The answers of both; None where their choices cannot be told from a fault: they cannot be
        read, are not in the same places, or what stands before a choice differs.
    """
    try:
        answer, own = a.choose(images)
        other, theirs = b.choose(images, own)
    except (ChoiceError, ArtifactError):
        return None
    same = (_alike(x.scores, y.scores) for x, y in zip(own, theirs, strict=True))
    return (answer, other) if own and all(same) else None


def _alike(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return a.shape == b.shape and np.allclose(a, b, SAME, SAME)


@dataclass(frozen=True)
class ChoosingGraph:
    """A graph whose choices are inputs, or outputs beside what it answers.

    Attributes:
        model: The graph.
        scores: Names of what each choice is made by; outputs.
        indices: Names of what is taken: outputs, or inputs where the choices are forced.
    """

    model: onnx.ModelProto
    scores: tuple[str, ...]
    indices: tuple[str, ...]


def choosing_graph(model: onnx.ModelProto, *, forced: bool) -> ChoosingGraph:
    """Make the choices of a graph, its ``TopK`` nodes, inputs or outputs."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    nodes: list[onnx.NodeProto] = []
    scores, indices = [], []
    for node in graph.node:
        if node.op_type != "TopK":
            nodes.append(node)
            continue
        scores.append(node.input[0])
        indices.append(f"{node.output[1]}::forced" if forced else node.output[1])
        nodes += _taking(node, indices[-1]) if forced else [node]
    replace_items(graph.node, nodes)
    places = graph.input if forced else graph.output
    places.extend(helper.make_tensor_value_info(n, TensorProto.INT64, None) for n in indices)
    known = {value.name for value in graph.output}
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in dict.fromkeys(scores)
        if name not in known
    )
    return ChoosingGraph(made, tuple(scores), tuple(indices))


def _taking(node: onnx.NodeProto, indices: str) -> list[onnx.NodeProto]:
    """Return what takes the given places where a ``TopK`` node took the best."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    values, taken = node.output
    gathered = [node.input[0], indices], [values], f"{node.name}::gathered"
    return [
        helper.make_node("Identity", [indices], [taken], f"{node.name}::taken"),
        helper.make_node("GatherElements", *gathered, axis=axis),
    ]
