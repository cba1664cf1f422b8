"""Find what TensorRT is known to break or refuse in a graph.

Each rule names its nodes and the reason. Nothing here needs TensorRT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import onnx
from typing_extensions import override

from edgedetr.graph.folded_sizes import FoldedSizes
from edgedetr.graph.requirements import opset_of
from edgedetr.graph.wiring import Wiring, element_types, label
from edgedetr.runtime.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    _Places = Iterator[tuple[str, str]]
    """Label of a node, or the name of an input or output, and what was found there."""

_HALF = int(onnx.TensorProto.FLOAT16)

MOST_TOP_K = 3840
"""The largest K of TopK that TensorRT takes."""

SHOWN = 3
"""How many nodes of a finding are named."""


@dataclass(frozen=True)
class Finding:
    """A rule that a graph breaks.

    Attributes:
        nodes: Labels of the nodes, or names of inputs and outputs.
        reason: What TensorRT does with them, and what to do instead.
        evidence: What was found at each of them.
    """

    nodes: tuple[str, ...]
    reason: str
    evidence: tuple[str, ...]

    @override
    def __str__(self) -> str:
        """Return it as one line."""
        more = len(self.nodes) - SHOWN
        named = ", ".join(self.nodes[:SHOWN]) + (f" and {more} more" if more > 0 else "")
        found = ", ".join(dict.fromkeys(self.evidence[:SHOWN]))
        return f"{named}: {self.reason} (found: {found})"


def refuse_broken(model: onnx.ModelProto, name: str) -> None:
    """Refuse a graph that TensorRT would break.

    Args:
        model: The graph, with its weights.
        name: Its name in the message.

    Raises:
        GateError: With every rule that it breaks.
    """
    found = lint(model)
    if found:
        raise GateError(f"{name} would break in TensorRT: " + "; ".join(map(str, found)))


def lint(model: onnx.ModelProto) -> list[Finding]:
    """Return one finding for each rule that a graph breaks."""
    return _findings(model, _RULES)


def doubts(model: onnx.ModelProto) -> list[Finding]:
    """Return what some versions of TensorRT compute wrongly, one finding for each rule.

    An engine of such a graph may be right: comparing it with the graph on real frames decides.
    """
    return _findings(model, _DOUBTS)


def _findings(model: onnx.ModelProto, rules: _Rules) -> list[Finding]:
    graph = _Graph(model)
    found = ((reason, tuple(rule(graph))) for rule, reason in rules)
    return [
        Finding(tuple(label for label, _ in places), reason, tuple(what for _, what in places))
        for reason, places in found
        if places
    ]


class _Graph:
    """A graph with what the rules look up."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.opset = opset_of(model)
        stored = {t.name for t in model.graph.initializer}
        inputs = [i for i in model.graph.input if i.name not in stored]
        self.ends = [*inputs, *model.graph.output]
        self.wiring = Wiring(model.graph)
        self.sizes = FoldedSizes(model)
        self.types = element_types(model)

    def of_kind(self, kind: str) -> Iterator[onnx.NodeProto]:
        return (node for node in self.nodes if node.op_type == kind)

    def readers(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Yield what reads a node, behind casts."""
        for index in (i for name in node.output for i in self.wiring.readers.get(name, ())):
            reader = self.nodes[index]
            yield from self.readers(reader) if reader.op_type == "Cast" else (reader,)

    def chain(self, node: onnx.NodeProto, kinds: Sequence[str]) -> list[onnx.NodeProto]:
        """Return a chain of nodes of these kinds behind a node; empty where there is none."""
        for reader in self.readers(node) if kinds else ():
            if reader.op_type == kinds[0]:
                rest = self.chain(reader, kinds[1:])
                if rest or len(kinds) == 1:
                    return [reader, *rest]
        return []


def _late_grid_sample(graph: _Graph) -> _Places:
    if graph.opset >= 20:
        yield from _grid_sample(graph)


def _grid_sample(graph: _Graph) -> _Places:
    for node in graph.of_kind("GridSample"):
        yield label(node), f"opset {graph.opset}"


def _data_dependent(graph: _Graph) -> _Places:
    for kind in ("NonZero", "NonMaxSuppression", "Loop", "If", "Scan"):
        for node in graph.of_kind(kind):
            yield label(node), kind


def _unlike_cumsums(graph: _Graph) -> _Places:
    """Find the running sums of a graph that has them along different axes or ways."""
    found = [(label(node), _way_of(node, graph)) for node in graph.of_kind("CumSum")]
    if len({way for _, way in found}) > 1:
        yield from found


def _way_of(node: onnx.NodeProto, graph: _Graph) -> str:
    axis = graph.sizes.value(node.input[1])
    flags = sorted(a.name for a in node.attribute if a.i)
    return " ".join([f"axis {'computed' if axis is None else int(axis.item())}", *flags])


def _int32_scales(graph: _Graph) -> _Places:
    for node in graph.of_kind("DequantizeLinear"):
        if graph.types.get(node.input[0]) == onnx.TensorProto.INT32:
            yield label(node), f"{node.input[0]} is INT32"


def _spread_layer_norm(graph: _Graph) -> _Places:
    for node in graph.of_kind("ReduceMean"):
        for square in ("Pow", "Mul"):
            chain = graph.chain(node, ("Sub", square, "ReduceMean", "Add", "Sqrt", "Div"))
            half = [n for n in chain[1:3] if graph.types.get(n.output[0]) == _HALF]
            if half:
                yield label(node), f"{label(half[0])} ({half[0].op_type}) is FP16"


def _dynamic_top_k(graph: _Graph) -> _Places:
    for node in graph.of_kind("TopK"):
        if graph.sizes.value(node.input[1]) is None:
            yield label(node), f"its K comes from {graph.sizes.source(node.input[1])}"


def _large_top_k(graph: _Graph) -> _Places:
    for node in graph.of_kind("TopK"):
        found = graph.sizes.value(node.input[1])
        if found is not None and int(found.max()) > MOST_TOP_K:
            yield label(node), f"K {int(found.max())}"


def _int64_ends(graph: _Graph) -> _Places:
    for end in graph.ends:
        if end.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            yield end.name, f"{end.name} is INT64"


_Rules: TypeAlias = "tuple[tuple[Callable[[_Graph], _Places], str], ...]"

_RULES: _Rules = (
    (
        _late_grid_sample,
        "GridSample of opset 20 and later is parsed wrongly (TensorRT issue 4646); export with "
        "opset 17, or without the node: --deformable-attention gather",
    ),
    (
        _int32_scales,
        "DequantizeLinear of INT32 is refused; keep biases in float, as edgedetr export qdq does",
    ),
    (
        _spread_layer_norm,
        "a LayerNorm of several nodes overflows in FP16; convert the FP32 model with edgedetr "
        "export fp16, which keeps such norms in FP32, or export with opset 17 or later, where it "
        "is one node",
    ),
    (
        _dynamic_top_k,
        "TopK with a K that is computed has no static shape; export with static shapes",
    ),
    (
        _large_top_k,
        f"TopK takes at most {MOST_TOP_K} elements; choose fewer queries",
    ),
    (
        _int64_ends,
        "INT64 at the graph's inputs and outputs changes its meaning between TensorRT 9 and 10; "
        "cast to INT32 or float inside",
    ),
)

_DOUBTS: _Rules = (
    (
        _grid_sample,
        "GridSample in a decoder lost three of four detections in TensorRT 10.14 and 11.1 "
        "(TensorRT issue 4813); export without the node: --deformable-attention gather",
    ),
    (
        _unlike_cumsums,
        "CumSums along different axes or ways are computed alike since TensorRT 10.8 (TensorRT "
        "issue 4551); export with static shapes, so that they are constants",
    ),
    (
        _data_dependent,
        "shapes that depend on the data keep the run from being recorded as a CUDA graph; export "
        "with static shapes",
    ),
)
