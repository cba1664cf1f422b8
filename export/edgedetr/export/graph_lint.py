"""What a graph must not hold, because TensorRT is known to break or refuse it.

Each rule names its nodes and the reason. Nothing here needs TensorRT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import numpy_helper
from typing_extensions import override

from edgedetr.calib.points import label
from edgedetr.runtime.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_TOP_K = 3840
"""The largest K of TopK that TensorRT takes."""

SHOWN = 3
"""How many nodes of a finding are named."""


@dataclass(frozen=True)
class Finding:
    """One rule that does not hold.

    Attributes:
        nodes: Labels of the nodes, or names of inputs and outputs.
        reason: What TensorRT does with them, and what to do instead.
    """

    nodes: tuple[str, ...]
    reason: str

    @override
    def __str__(self) -> str:
        """Say it in a line."""
        more = len(self.nodes) - SHOWN
        named = ", ".join(self.nodes[:SHOWN]) + (f" and {more} more" if more > 0 else "")
        return f"{named}: {self.reason}"


def refuse_broken(model: onnx.ModelProto, name: str) -> None:
    """Refuse a graph that TensorRT would break.

    Args:
        model: The graph, with its weights.
        name: What to call it.

    Raises:
        GateError: With every rule that does not hold.
    """
    found = lint(model)
    if found:
        raise GateError(f"{name} would break in TensorRT: " + "; ".join(map(str, found)))


def lint(model: onnx.ModelProto) -> list[Finding]:
    """Return what is wrong with a graph, one finding a rule."""
    graph = _Graph(model)
    findings = ((reason, tuple(rule(graph))) for rule, reason in _RULES)
    return [Finding(nodes, reason) for reason, nodes in findings if nodes]


class _Graph:
    """A graph with what the rules look up."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.opset = max(
            (o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=0
        )
        self.ends = [*model.graph.input, *model.graph.output]
        self.constants = {t.name: t for t in model.graph.initializer}
        self.constants |= {
            node.output[0]: a.t
            for node in self.nodes
            if node.op_type == "Constant"
            for a in node.attribute
            if a.name == "value"
        }
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for tensor in node.input:
                self.readers.setdefault(tensor, []).append(node)
        self.integers = {
            v.name
            for v in onnx.shape_inference.infer_shapes(model).graph.value_info
            if v.type.tensor_type.elem_type == onnx.TensorProto.INT32
        }

    def of_kind(self, kind: str) -> Iterator[onnx.NodeProto]:
        return (node for node in self.nodes if node.op_type == kind)

    def followed(self, node: onnx.NodeProto, kinds: Iterable[str]) -> bool:
        """Tell whether a chain of nodes of these kinds starts behind a node."""
        kinds = tuple(kinds)
        if not kinds:
            return True
        after = (r for name in node.output for r in self.readers.get(name, ()))
        return any(r.op_type == kinds[0] and self.followed(r, kinds[1:]) for r in after)


def _late_grid_sample(graph: _Graph) -> Iterator[str]:
    if graph.opset >= 20:
        yield from map(label, graph.of_kind("GridSample"))


def _int32_scales(graph: _Graph) -> Iterator[str]:
    for node in graph.of_kind("DequantizeLinear"):
        constant = graph.constants.get(node.input[0])
        of_int32 = constant is not None and constant.data_type == onnx.TensorProto.INT32
        if of_int32 or node.input[0] in graph.integers:
            yield label(node)


def _spread_layer_norm(graph: _Graph) -> Iterator[str]:
    for node in graph.of_kind("ReduceMean"):
        for square in ("Pow", "Mul"):
            if graph.followed(node, ("Sub", square, "ReduceMean", "Add", "Sqrt", "Div")):
                yield label(node)


def _dynamic_top_k(graph: _Graph) -> Iterator[str]:
    for node in graph.of_kind("TopK"):
        if node.input[1] not in graph.constants:
            yield label(node)


def _large_top_k(graph: _Graph) -> Iterator[str]:
    for node in graph.of_kind("TopK"):
        constant = graph.constants.get(node.input[1])
        if constant is not None and int(numpy_helper.to_array(constant).max()) > MOST_TOP_K:
            yield label(node)


def _int64_ends(graph: _Graph) -> Iterator[str]:
    for end in graph.ends:
        if end.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            yield end.name


_RULES: tuple[tuple[Callable[[_Graph], Iterator[str]], str], ...] = (
    (
        _late_grid_sample,
        "GridSample of opset 20 and later is parsed wrongly (TensorRT issue 4646); export with "
        "opset 17, or without the node: --deformable-attention gather",
    ),
    (
        _int32_scales,
        "DequantizeLinear of INT32 is refused; leave biases in float, as edgedetr export qdq does",
    ),
    (
        _spread_layer_norm,
        "a LayerNorm spread over several nodes overflows in FP16; export with opset 17 or later, "
        "where it is one node",
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
