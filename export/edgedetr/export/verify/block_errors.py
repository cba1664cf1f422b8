"""How far each block of a graph diverges from the same block of another."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from onnx import TensorProto

from edgedetr.export.verify.difference import Comparison
from edgedetr.export.verify.int8_reference import ideally_quantized
from edgedetr.export.verify.taps import FED, activations, cut_into_blocks, parts, tapped
from edgedetr.graph.blocks import block_names
from edgedetr.graph.exact import EIGHT_BITS
from edgedetr.graph.wiring import label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

    from edgedetr.export.verify.difference import Difference
    from edgedetr.export.verify.taps import Blocks, Tensor, Values
    from edgedetr.graph.exact import ExactGraph, Precision

EXPLAINED: dict[Precision, float] = {"fp32": 1e-3, "fp16": 2e-2, "fp8": 0.25, "int8": 0.25}
"""The largest relative error of a block's outputs that rounding to its precision explains; an INT8
block has a lower limit where its ideally quantized twin does better, see `HEADROOM`."""
HEADROOM = 8.0
"""How many times the error of its ideally quantized twin that of an INT8 block may be. The twin has
a scale for each frame, a calibrated range is the same for all: on the three worst of 40 frames good
students reach 3.7 times, on single frames 5."""


@dataclass(frozen=True)
class BlockError:
    """The error of a block.

    Attributes:
        block: Its name.
        precision: The coarsest precision in it, in either graph.
        tensors: How many of its outputs were compared.
        worst_tensor: The output with the largest error.
        own: The error of that output when the candidate's block gets the reference's inputs.
        limit: The largest own error that its precision explains.
        carried: The largest error of an output when both graphs run as they are, accumulated over
            the blocks before; None behind queries that the graphs select in another order.
    """

    block: str
    precision: Precision
    tensors: int
    worst_tensor: str
    own: Difference
    limit: float
    carried: float | None

    @property
    def diverges(self) -> bool:
        """Whether its own error is beyond its limit."""
        return not self.own.relative <= self.limit

    @property
    def line(self) -> str:
        """Summarize it in a line."""
        return (
            f"{self.block} ({self.precision}): own error {self.own.relative:.2g}, limit "
            f"{self.limit:.2g}, worst in {self.worst_tensor}"
        )

    def row(self, wide: int) -> str:
        """Return it as a row of a table whose first column is ``wide`` characters wide."""
        sqnr = "-" if self.own.sqnr_db is None else f"{self.own.sqnr_db:.1f}"
        carried = "-" if self.carried is None else f"{self.carried:.2g}"
        mark = "  diverges" if self.diverges else ""
        return (
            f"{self.block:<{wide}}  {self.precision:<5}{self.own.relative:>10.2g}{self.limit:>8.2g}"
            f"{sqnr:>9}{carried:>13}{mark}"
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON; an infinite error is None."""
        values = asdict(self)
        del values["own"], values["limit"]
        own = self.own.relative if math.isfinite(self.own.relative) else None
        return {
            **values,
            "own_relative_error": own,
            "own_cosine": self.own.cosine,
            "own_sqnr_db": self.own.sqnr_db,
            "explained": self.limit,
            "departs": self.diverges,
        }


def block_errors(
    graphs: tuple[ExactGraph, ExactGraph],
    feeds: tuple[list[Values], list[Values]],
    errors: Mapping[str, float],
) -> tuple[BlockError, ...]:
    """Run each block of a candidate on its inputs in the reference.

    Args:
        graphs: The reference and the candidate.
        feeds: The inputs of each of them, frame by frame.
        errors: Relative error of each tensor when both run as they are.

    Returns:
        The blocks with outputs that both graphs have, in the order of the graph.

    Raises:
        ArtifactError: If a block does not run on these inputs.
    """
    reference, candidate = graphs
    known = activations(reference.model)
    finest = min(graphs, key=lambda graph: list(EXPLAINED).index(graph.precision))
    named = _named(finest, known)
    blocks = cut_into_blocks(candidate.model, named, known)
    precisions = _precisions(graphs, (named, blocks.block_of))
    reordered = _behind_reordered_queries(candidate, errors)
    own = _differences(reference, blocks, feeds)
    ideal = _ideal_differences(graphs, named, feeds)
    found = []
    for block, differences in own.items():
        worst = max(differences, key=lambda name: differences[name].relative)
        precision = precisions.get(block, "fp32")
        carried = max(errors.get(name, 0.0) for name in differences)
        is_known = reordered.isdisjoint(differences) and math.isfinite(carried)
        found.append(
            BlockError(
                block=block,
                precision=precision,
                tensors=len(differences),
                worst_tensor=worst,
                own=differences[worst],
                limit=_explained(precision, candidate, ideal.get(block)),
                carried=carried if is_known else None,
            )
        )
    return tuple(found)


def _explained(
    precision: Precision, candidate: ExactGraph, ideal: Mapping[str, Difference] | None
) -> float:
    """Return the limit of a block's own error."""
    if precision not in EIGHT_BITS or ideal is None:
        return EXPLAINED[precision]
    rest = EXPLAINED["fp16" if candidate.half else "fp32"]
    twin = max(difference.relative for difference in ideal.values())
    return min(rest + HEADROOM * twin, EXPLAINED[precision])


def _ideal_differences(
    graphs: tuple[ExactGraph, ExactGraph],
    named: Mapping[str, str],
    feeds: tuple[list[Values], list[Values]],
) -> dict[str, dict[str, Difference]]:
    """Measure the reference's blocks, ideally quantized where the candidate is; else nothing."""
    reference, candidate = graphs
    if candidate.precision not in EIGHT_BITS or reference.precision in EIGHT_BITS:
        return {}
    ideal = ideally_quantized(reference.model, candidate.model)
    blocks = cut_into_blocks(ideal, named, activations(reference.model))
    return _differences(reference, blocks, (feeds[0], feeds[0]))


def _differences(
    reference: ExactGraph, blocks: Blocks, feeds: tuple[list[Values], list[Values]]
) -> dict[str, dict[str, Difference]]:
    """Run every block on its inputs in the reference; return the errors of its float outputs."""
    known = activations(reference.model)
    outputs = {block: _floats(names, known) for block, names in blocks.outputs.items()}
    outputs = {block: names for block, names in outputs.items() if names}
    found = {}
    for group in _groups(blocks, outputs, known):
        wanted = [name for block in group for name in outputs[block]]
        given = [name for block in group for name in blocks.fed[block]]
        compared = _compared(reference, blocks, (wanted, given), feeds)
        for block in group:
            found[block] = {name: compared[name].difference() for name in outputs[block]}
    return found


def _named(graph: ExactGraph, known: Mapping[str, Tensor]) -> dict[str, str]:
    """Name the block of each node of a graph, and of those that make the reference's tensors."""
    named = block_names(graph.model)
    makers = {name: label(node) for node in graph.model.graph.node for name in node.output}
    others = {t.node: named[makers[t.name]] for t in known.values() if t.name in makers}
    return others | named


def _precisions(
    graphs: Sequence[ExactGraph], blocks: Sequence[Mapping[str, str]]
) -> dict[str, Precision]:
    """Return the coarsest precision of each block in either graph."""
    found: dict[str, Precision] = {}
    order = list(EXPLAINED)
    for graph, block_of in zip(graphs, blocks, strict=True):
        for node in graph.model.graph.node:
            block = block_of.get(label(node), "")
            own = _precision(node, graph)
            found[block] = max(found.get(block, own), own, key=order.index)
    return found


def _precision(node: onnx.NodeProto, graph: ExactGraph) -> Precision:
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return graph.precision
    return "fp32" if graph.half.isdisjoint(node.output) else "fp16"


def _floats(names: Sequence[str], known: Mapping[str, Tensor]) -> list[str]:
    return [name for name in names if known[name].kind == TensorProto.FLOAT]


def _groups(
    blocks: Blocks, outputs: Mapping[str, list[str]], known: Mapping[str, Tensor]
) -> Iterator[list[str]]:
    """Group blocks that run together, as many as their tensors allow."""
    sizes = []
    for block, names in outputs.items():
        size = sum(known[n].size_bytes for n in (*names, *blocks.fed[block]))
        sizes.append(replace(known[names[0]], name=block, size_bytes=size))
    return parts(sizes)


def _compared(
    reference: ExactGraph,
    blocks: Blocks,
    names: tuple[list[str], list[str]],
    feeds: tuple[list[Values], list[Values]],
) -> dict[str, Comparison]:
    """Run some blocks and compare their float outputs."""
    wanted, given = names
    needed = list(dict.fromkeys([*wanted, *given]))
    compared = {name: Comparison() for name in wanted}
    flows = list(tapped(reference.model, needed, feeds[0], "the reference"))
    fed = [
        feed | {name + FED: flow[name] for name in given}
        for flow, feed in zip(flows, feeds[1], strict=True)
    ]
    found = tapped(blocks.model, wanted, fed, "a block of the candidate")
    for flow, own in zip(flows, found, strict=True):
        for name in wanted:
            compared[name].add(flow[name], own[name])
    return compared


def _behind_reordered_queries(graph: ExactGraph, errors: Mapping[str, float]) -> set[str]:
    """Name the tensors that depend on a query selection which differs."""
    found: set[str] = set()
    for node in graph.model.graph.node:
        selected = node.output[1:2] if node.op_type == "TopK" else []
        if any(errors.get(name, 0.0) > 0 for name in selected) or not found.isdisjoint(node.input):
            found.update(node.output)
    return found
