"""Work out numbers that a graph computes from constants and from the shapes of its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgedetr.graph.requirements import opset_of
from edgedetr.graph.wiring import Wiring, label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Values = dict[str, NDArray[np.generic]]

_FREE_SIZES = (2, 3)
"""What free sides are taken for; what both give alike does not depend on them."""


class FoldedSizes:
    """The sizes in a graph, such as the K of a TopK, that are the same for every input.

    Args:
        model: The graph.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._wiring = Wiring(model.graph)
        self._opset = opset_of(model)
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self._shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.value_info, *graph.output)
            if value.type.tensor_type.HasField("shape")
        }
        self._shapes |= {name: list(t.dims) for name, t in self._wiring.constants.items()}

    def value(self, name: str) -> NDArray[np.generic] | None:
        """Return what a tensor always holds; None where that depends on the input."""
        first, second = (self._folded(name, free).get(name) for free in _FREE_SIZES)
        if first is None or second is None or not np.array_equal(first, second):
            return None
        return first

    def source(self, name: str) -> str:
        """Say what makes a tensor that is not always the same."""
        folded = self._folded(name, _FREE_SIZES[0])
        for index in self._ancestors(name):
            node = self._wiring.nodes[index]
            if any(output not in folded for output in node.output):
                return f"{label(node)} ({node.op_type})"
            if node.op_type == "Shape" and 0 in self._shapes[node.input[0]]:
                return f"a free size of {node.input[0]}"
        return f"the input {name}"

    def _folded(self, name: str, free: int) -> Values:
        """Compute what is known of the tensors that ``name`` is made of."""
        values: Values = {}
        if name in self._wiring.constants:
            values[name] = numpy_helper.to_array(self._wiring.constants[name])
        for index in self._ancestors(name):
            node = self._wiring.nodes[index]
            made = self._made(node, values, free)
            values |= dict(zip(node.output, made, strict=False))
        return values

    def _made(
        self, node: onnx.NodeProto, values: Mapping[str, NDArray[np.generic]], free: int
    ) -> list[NDArray[np.generic]]:
        """Compute a node; empty where an input is not known."""
        if node.op_type == "Shape" and node.input[0] in self._shapes:
            sides = np.array([s or free for s in self._shapes[node.input[0]]], np.int64)
            bounds = {a.name: a.i for a in node.attribute}
            return [sides[bounds.get("start", 0) : bounds.get("end", len(sides))]]
        constants = self._wiring.constants
        feeds = {n: numpy_helper.to_array(constants[n]) for n in node.input if n in constants}
        feeds |= {n: values[n] for n in node.input if n in values}
        if any(n and n not in feeds for n in node.input) or _is_open(node):
            return []
        return _computed(node, feeds, self._opset)

    def _ancestors(self, name: str) -> list[int]:
        """Return the nodes that make a tensor, in order, up to the shapes that are known."""
        found: set[int] = set()
        waiting = [name]
        while waiting:
            index = self._wiring.producer.get(waiting.pop(), -1)
            if index < 0 or index in found:
                continue
            found.add(index)
            node = self._wiring.nodes[index]
            if node.op_type != "Shape" or node.input[0] not in self._shapes:
                waiting.extend(node.input)
        return sorted(found)


def _is_open(node: onnx.NodeProto) -> bool:
    """Tell whether a node reads more than its inputs, or answers by chance."""
    return any(a.HasField("g") for a in node.attribute) or node.op_type.startswith("Random")


def _computed(
    node: onnx.NodeProto, feeds: Mapping[str, NDArray[np.generic]], opset: int
) -> list[NDArray[np.generic]]:
    graph = helper.make_graph(
        [node],
        "folded",
        [],
        [onnx.ValueInfoProto(name=name) for name in node.output],
        [numpy_helper.from_array(values, name) for name, values in feeds.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, {})]
