"""Rewrite a float32 graph so that chosen nodes stay in FP32 and the others compute in FP16."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import onnx
from onnx import helper, numpy_helper

from edgedetr.export.transforms.fp16_rounding import half_of, half_weights
from edgedetr.export.transforms.fp32_rules import MULTIPLIERS
from edgedetr.graph.int8 import channel_axis
from edgedetr.graph.requirements import opset_of
from edgedetr.graph.sampling_plugin import is_plugin
from edgedetr.graph.wiring import LAYERS, Wiring, reads, replace_items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

FLOAT, HALF = int(onnx.TensorProto.FLOAT), int(onnx.TensorProto.FLOAT16)
_ZERO = helper.make_tensor("", FLOAT, [1], [0.0])
_SUFFIX = {FLOAT: "fp32", HALF: "fp16"}


@dataclass(frozen=True)
class Halves:
    """Where the nodes of a graph went.

    Attributes:
        half: Indices of the nodes that compute in FP16.
        full: Indices of the nodes that compute in FP32.
        casts: Casts that were added.
    """

    half: tuple[int, ...]
    full: tuple[int, ...]
    casts: int


def typed(
    model: onnx.ModelProto, types: Mapping[str, int], islands: set[int]
) -> tuple[onnx.ModelProto, Halves]:
    """Give every float tensor a type of its own, FP16 where that is possible.

    Args:
        model: A float32 graph; it is left as it is.
        types: Element type of each of its tensors.
        islands: Indices of the nodes that stay in FP32. Nodes between them, that no FP16 node
            needs, are added.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    for node in written.graph.node:
        ends = {types.get(name) for name in (*node.input, *node.output)}
        if node.op_type == "Cast" and ends == {FLOAT}:
            node.op_type = "Identity"  # FP32 to FP32, which would undo or repeat a Cast of ours
            node.ClearField("attribute")
    wiring, opset = Wiring(written.graph), opset_of(model)
    signatures = [_Signature(node, opset, types) for node in wiring.nodes]
    full = _filled(wiring, signatures, islands)
    writer = _Writer(written.graph, wiring)
    floats = []
    for index, node in enumerate(wiring.nodes):
        if not writer.drops(node):
            writer.add(node, signatures[index], FLOAT if index in full else HALF)
            floats += [index] * signatures[index].is_float
    writer.finish()
    onnx.checker.check_model(written, full_check=True)
    halves = Halves(
        half=tuple(i for i in floats if i not in full),
        full=tuple(i for i in floats if i in full),
        casts=writer.casts,
    )
    return written, halves


class _Signature:
    """Which inputs and outputs of a node are float, and which of them may be FP16.

    Attributes:
        inputs: Position of each float input to whether it may be FP16.
        outputs: Likewise of each float output.
    """

    def __init__(self, node: onnx.NodeProto, opset: int, types: Mapping[str, int]) -> None:
        may_be = _no_half if is_plugin(node) else _schema_half(node, opset)
        self.inputs, self.outputs = (
            {
                position: may_be(position, is_output)
                for position, name in enumerate(names)
                if name and types.get(name) == FLOAT
            }
            for is_output, names in ((False, node.input), (True, node.output))
        )

    @property
    def is_float(self) -> bool:
        """Whether it computes with floats at all."""
        return bool(self.inputs or self.outputs)


def _schema_half(node: onnx.NodeProto, opset: int) -> Callable[[int, bool], bool]:
    """Return what tells by position whether ONNX lets an input or output of a node be FP16."""
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}

    def may_be_half(position: int, is_output: bool) -> bool:
        kind = _formal(schema.outputs if is_output else schema.inputs, position)
        return "tensor(float16)" in allowed.get(kind, ())

    return may_be_half


def _no_half(position: int, is_output: bool) -> bool:
    """Keep TensorRT's plugin in FP32: in FP16 its kernel rounds the places that it reads."""
    del position, is_output
    return False


def _formal(formals: Iterable[onnx.defs.OpSchema.FormalParameter], position: int) -> str:
    """Name the type of an input or output; the last one may stand for several."""
    formals = list(formals)
    return str(formals[min(position, len(formals) - 1)].type_str)


def _filled(wiring: Wiring, signatures: list[_Signature], islands: set[int]) -> set[int]:
    """Add the nodes that only FP32 nodes read and that read only FP32: a Cast saved each way."""
    full = set(islands)
    while True:
        more = {
            index
            for index, node in enumerate(wiring.nodes)
            if index not in full
            and node.op_type not in MULTIPLIERS
            and signatures[index].is_float
            and _lies_between(wiring, index, signatures, full)
        }
        if not more:
            return full
        full |= more


def _lies_between(wiring: Wiring, index: int, signatures: list[_Signature], full: set[int]) -> bool:
    node, signature = wiring.nodes[index], signatures[index]
    for position in signature.inputs:
        name = node.input[position]
        if name not in wiring.constants and wiring.producer.get(name, index) not in {*full, index}:
            return False
    for position in signature.outputs:
        name = node.output[position]
        for reader in wiring.readers.get(name, ()):
            places = [p for p in signatures[reader].inputs if wiring.nodes[reader].input[p] == name]
            if reader not in full and any(signatures[reader].inputs[p] for p in places):
                return False
    return True


class _Writer:
    """Writes nodes with the types that were chosen, and a Cast where a reader wants another."""

    def __init__(self, graph: onnx.GraphProto, wiring: Wiring) -> None:
        self._graph = graph
        self._constants = wiring.constants
        self._outputs = {o.name for o in graph.output}
        self._stored = {t.name for t in graph.initializer}
        self._taken = self._stored.union(i.name for i in graph.input)
        self._taken.update(name for node in wiring.nodes for name in node.output)
        self._names: dict[tuple[str, int], str] = {}
        self._native: dict[str, int] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._made: list[onnx.TensorProto] = []
        self.casts = 0

    def drops(self, node: onnx.NodeProto) -> bool:
        """Tell whether a node only names a float constant, which its readers get themselves."""
        constant = self._constants.get(node.output[0])
        return (
            constant is not None
            and constant.data_type == FLOAT
            and not self._outputs.intersection(node.output)
        )

    def add(self, node: onnx.NodeProto, signature: _Signature, kind: int) -> None:
        """Write a node that computes in FP16 or FP32."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for position, may_be_half in signature.inputs.items():
            wanted = kind if may_be_half else FLOAT
            if node.op_type == "Cast":
                wanted = self._native.get(node.input[0], kind)
            name = node.input[position]
            if wanted == HALF and position == 1 and name in self._constants:
                self._weights(name, node)
            copy.input[position] = self._named(name, wanted)
        for position, may_be_half in signature.outputs.items():
            self._native[node.output[position]] = kind if may_be_half else FLOAT
        if signature.outputs and kind == HALF:
            _make_half(copy)
        self._nodes.append(copy)
        for position in signature.outputs:
            name = node.output[position]
            if name in self._outputs and self._native[name] == HALF:
                copy.output[position] = self._names[name, HALF] = self._free(f"{name}_fp16")
                self._cast(copy.output[position], name, FLOAT)

    def finish(self) -> None:
        """Put nodes and constants into the graph, without those that nothing reads."""
        read = self._outputs.union(*(reads(n) for n in self._nodes))
        kept = [t for t in self._graph.initializer if t.name in read]
        graph = self._graph
        for items, values in ((graph.node, self._nodes), (graph.initializer, kept)):
            replace_items(items, values)
        graph.initializer.extend(self._made)
        graph.ClearField("value_info")

    def _named(self, name: str, kind: int) -> str:
        """Return the name under which a tensor has a type; cast it there the first time."""
        if self._native.get(name, FLOAT) == kind and name not in self._constants:
            return self._names.get((name, kind), name)
        if (name, kind) not in self._names:
            if name in self._constants:
                self._names[name, kind] = self._constant(name, kind)
            else:
                new = self._free(f"{name}_{_SUFFIX[kind]}")
                native = self._names.get((name, self._native.get(name, FLOAT)), name)
                self._cast(native, new, kind)
                self._names[name, kind] = new
        return self._names[name, kind]

    def _weights(self, name: str, node: onnx.NodeProto) -> None:
        """Store the weights of a product the first time that one reads them in FP16."""
        values = numpy_helper.to_array(self._constants[name])
        if node.op_type in LAYERS and values.ndim > 1 and (name, HALF) not in self._names:
            rounded = half_weights(values, channel_axis(node, values.ndim))
            self._names[name, HALF] = self._store(rounded, name, HALF)

    def _constant(self, name: str, kind: int) -> str:
        if kind == FLOAT and name in self._stored:
            return name
        values = numpy_helper.to_array(self._constants[name])
        return self._store(half_of(values) if kind == HALF else values, name, kind)

    def _store(self, values: NDArray[np.generic], name: str, kind: int) -> str:
        new = self._free(f"{name}_{_SUFFIX[kind]}")
        self._made.append(numpy_helper.from_array(values, new))
        return new

    def _cast(self, source: str, target: str, kind: int) -> None:
        self._nodes.append(helper.make_node("Cast", [source], [target], f"{target}_Cast", to=kind))
        self.casts += 1

    def _free(self, wanted: str) -> str:
        name = next(
            n for n in (f"{wanted}_{i}" if i else wanted for i in count()) if n not in self._taken
        )
        self._taken.add(name)
        return name


def _make_half(node: onnx.NodeProto) -> None:
    """Let a node that names its type, Cast or ConstantOfShape, give FP16 instead of FP32."""
    if node.op_type == "ConstantOfShape" and not node.attribute:
        node.attribute.append(helper.make_attribute("value", _ZERO))
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
            attribute.i = HALF
        elif node.op_type in ("ConstantOfShape", "Constant") and attribute.t.data_type == FLOAT:
            values = half_of(numpy_helper.to_array(attribute.t))
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
