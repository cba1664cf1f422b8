"""How a graph hangs together: what makes a tensor, what reads it, which are constant, and types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
    from google.protobuf.message import Message


LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""The operators that multiply with weights."""


class Wiring:
    """Which node makes a tensor, which nodes read it, and which tensors are constant.

    Attributes:
        nodes: The graph's nodes, in order.
        producer: Tensor name to the index of the node that makes it.
        readers: Tensor name to the indices of the nodes that read it.
        constants: Tensor name to its value, also through Constant and Identity nodes.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.producer: dict[str, int] = {}
        self.readers: dict[str, list[int]] = {}
        self.constants: dict[str, onnx.TensorProto] = {t.name: t for t in graph.initializer}
        self.inputs = [i.name for i in graph.input if i.name not in self.constants]
        for index, node in enumerate(self.nodes):
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(index)
            for name in node.output:
                self.producer[name] = index
            self._note_constant(node)

    def downstream(self, ops: Iterable[str]) -> set[int]:
        """Return the indices of the nodes that depend on a node of one of these operators."""
        ops = set(ops)
        return self.behind(i for i, node in enumerate(self.nodes) if node.op_type in ops)

    def behind(self, indices: Iterable[int]) -> set[int]:
        """Return these nodes and those that depend on one of them."""
        first = set(indices)
        found: set[int] = set()
        tainted: set[str] = set()
        for index, node in enumerate(self.nodes):
            if index in first or not tainted.isdisjoint(node.input):
                found.add(index)
                tainted.update(node.output)
        return found

    def source(self, name: str) -> onnx.NodeProto | None:
        """Return the node whose output a tensor is, or a Cast of it; None where none makes it."""
        index = self.producer.get(name)
        while index is not None and self.nodes[index].op_type == "Cast":
            index = self.producer.get(self.nodes[index].input[0])
        return None if index is None else self.nodes[index]

    def _note_constant(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            self.constants[node.output[0]] = node.attribute[0].t
        elif node.op_type == "Identity" and node.input[0] in self.constants:
            self.constants[node.output[0]] = self.constants[node.input[0]]


def label(node: onnx.NodeProto) -> str:
    """Return a node's name, or its first output where it has none."""
    return str(node.name or node.output[0])


def reads(node: onnx.NodeProto) -> set[str]:
    """Name what a node reads, the bodies of its branches and loops included."""
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names.update(*(reads(inner) for inner in attribute.g.node))
    return names


def parameters(index: int, wiring: Wiring) -> list[str]:
    """Name the constants that a node reads, and the bias that is added behind it."""
    node = wiring.nodes[index]
    readers = (wiring.nodes[i] for i in wiring.readers.get(node.output[0], ()))
    added = (name for reader in readers if reader.op_type == "Add" for name in reader.input)
    return [name for name in (*node.input, *added) if name in wiring.constants]


def replace_items(field: RepeatedCompositeFieldContainer, messages: Iterable[Message]) -> None:
    """Let a list of a graph hold these messages, which may be parts of the same graph, instead."""
    copies = [type(m).FromString(m.SerializeToString()) for m in messages]
    del field[:]
    field.extend(copies)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of each tensor whose type is known."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {t.name: t.data_type for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type:
            types[value.name] = value.type.tensor_type.elem_type
    return types
