"""How far each block of one graph departs from the same block of another."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from edgedetr.export.verify.int8_reference import ideally_quantized
from edgedetr.export.verify.taps import FED, activations, cut_into_blocks, parts, tapped
from edgedetr.graph.blocks import block_names
from edgedetr.graph.wiring import label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

    from edgedetr.export.verify.taps import Blocks, Tensor, Values
    from edgedetr.graph.exact import ExactGraph, Precision

EXPLAINED: dict[Precision, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.25}
"""The largest relative error of a block's answers that rounding to its precision explains; an INT8
block is held to less where its ideally quantized twin does better, see `HEADROOM`."""
HEADROOM = 3.0
"""How many times the error of its ideally quantized twin an INT8 block may make."""

ON_PURPOSE = 1e30
"""What is larger in the reference stands for infinity: masks are written so."""
TINY = 1e-6
"""A tensor of smaller numbers counts as one of such: rounding is no relative error there."""


@dataclass(frozen=True)
class Difference:
    """How far tensors are from others; numbers that are not finite in either are left out.

    Attributes:
        relative: Root of the summed squares of the difference by those of the reference.
        cosine: Cosine of the angle between them.
    """

    relative: float
    cosine: float

    @property
    def sqnr_db(self) -> float | None:
        """Signal by noise, in decibels; None where there is no noise."""
        return -20 * math.log10(self.relative) if 0 < self.relative < math.inf else None


class Comparison:
    """Compares a tensor over frames without keeping it."""

    def __init__(self) -> None:
        self._noise = self._signal = self._other = self._product = 0.0
        self._size = 0
        self._misshapen = False

    def add(self, reference: np.ndarray, other: np.ndarray) -> None:
        """Note the values of one frame."""
        if reference.shape != other.shape:
            self._misshapen = True
            return
        a, b = reference.astype(np.float64).ravel(), other.astype(np.float64).ravel()
        keep = np.isfinite(a) & np.isfinite(b) & (np.abs(a) <= ON_PURPOSE)
        a, b = a[keep], b[keep]
        self._size += a.size
        self._noise += float(np.square(a - b).sum())
        self._signal += float(a @ a)
        self._other += float(b @ b)
        self._product += float(a @ b)

    def difference(self) -> Difference:
        """Return how far the tensors are apart."""
        if self._misshapen:
            return Difference(math.inf, 0.0)
        floor = self._size * TINY**2
        norms = math.sqrt(self._signal * self._other)
        cosine = self._product / norms if norms else float(not self._noise)
        noise = self._noise / (self._signal + floor) if self._noise else 0.0
        return Difference(math.sqrt(noise), cosine)


@dataclass(frozen=True)
class BlockError:
    """How a block computes.

    Attributes:
        block: Its name.
        precision: The coarsest numbers in it, in either graph.
        tensors: How many of its answers were compared.
        worst_tensor: The answer that is farthest away.
        own: That answer's error when the candidate's block reads what the reference's reads.
        limit: The largest own error that its precision explains.
        carried: The largest error of an answer when both graphs run as they are, everything before
            included; None behind queries that the graphs choose in another order.
    """

    block: str
    precision: Precision
    tensors: int
    worst_tensor: str
    own: Difference
    limit: float
    carried: float | None

    @property
    def departs(self) -> bool:
        """Whether its own error is more than its precision explains."""
        return not self.own.relative <= self.limit

    @property
    def line(self) -> str:
        """Say it in a line."""
        return (
            f"{self.block} ({self.precision}): own error {self.own.relative:.2g}, explained "
            f"{self.limit:.2g}, worst in {self.worst_tensor}"
        )

    def row(self, wide: int) -> str:
        """Say it in a row of a table whose first column is ``wide`` characters wide."""
        sqnr = "-" if self.own.sqnr_db is None else f"{self.own.sqnr_db:.1f}"
        carried = "-" if self.carried is None else f"{self.carried:.2g}"
        mark = "  departs" if self.departs else ""
        return (
            f"{self.block:<{wide}}  {self.precision:<5}{self.own.relative:>10.2g}{self.limit:>8.2g}"
            f"{sqnr:>9}{carried:>10}{mark}"
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON; an error without end is None."""
        values = asdict(self)
        del values["own"], values["limit"]
        own = self.own.relative if math.isfinite(self.own.relative) else None
        return {
            **values,
            "own_relative_error": own,
            "own_cosine": self.own.cosine,
            "own_sqnr_db": self.own.sqnr_db,
            "explained": self.limit,
            "departs": self.departs,
        }


def block_errors(
    graphs: tuple[ExactGraph, ExactGraph],
    feeds: tuple[list[Values], list[Values]],
    errors: Mapping[str, float],
) -> tuple[BlockError, ...]:
    """Run each block of a candidate on what flows into it in a reference.

    Args:
        graphs: The reference and the candidate.
        feeds: What each of them is fed, frame by frame.
        errors: Relative error of each tensor when both run as they are.

    Returns:
        The blocks that answer something which both graphs have, in the order of the graph.

    Raises:
        ArtifactError: If a block does not run on what it is given.
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
    """Return the largest own error that a block's precision explains."""
    if precision != "int8" or ideal is None:
        return EXPLAINED[precision]
    rest = EXPLAINED["fp16" if candidate.half else "fp32"]
    twin = max(difference.relative for difference in ideal.values())
    return min(rest + HEADROOM * twin, EXPLAINED["int8"])


def _ideal_differences(
    graphs: tuple[ExactGraph, ExactGraph],
    named: Mapping[str, str],
    feeds: tuple[list[Values], list[Values]],
) -> dict[str, dict[str, Difference]]:
    """Measure the blocks of the reference, quantized where the candidate is; nothing elsewhere."""
    reference, candidate = graphs
    if candidate.precision != "int8" or reference.precision == "int8":
        return {}
    ideal = ideally_quantized(reference.model, candidate.model)
    blocks = cut_into_blocks(ideal, named, activations(reference.model))
    return _differences(reference, blocks, (feeds[0], feeds[0]))


def _differences(
    reference: ExactGraph, blocks: Blocks, feeds: tuple[list[Values], list[Values]]
) -> dict[str, dict[str, Difference]]:
    """Run every block on what flows in the reference; return how far its float answers are off."""
    known = activations(reference.model)
    outputs = {block: _floats(names, known) for block, names in blocks.outputs.items()}
    outputs = {block: names for block, names in outputs.items() if names}
    found = {}
    for group in _groups(blocks, outputs, known):
        answers = [name for block in group for name in outputs[block]]
        given = [name for block in group for name in blocks.fed[block]]
        compared = _compared(reference, blocks, (answers, given), feeds)
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
    """Return the coarsest numbers of each block in either graph."""
    found: dict[str, Precision] = {}
    order = list(EXPLAINED)
    for graph, block_of in zip(graphs, blocks, strict=True):
        for node in graph.model.graph.node:
            block = block_of.get(label(node), "")
            own = _precision(node, graph.half)
            found[block] = max(found.get(block, own), own, key=order.index)
    return found


def _precision(node: onnx.NodeProto, half: frozenset[str]) -> Precision:
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return "int8"
    return "fp32" if half.isdisjoint(node.output) else "fp16"


def _floats(names: Sequence[str], known: Mapping[str, Tensor]) -> list[str]:
    return [name for name in names if known[name].kind == TensorProto.FLOAT]


def _groups(
    blocks: Blocks, outputs: Mapping[str, list[str]], known: Mapping[str, Tensor]
) -> Iterator[list[str]]:
    """Join blocks that run together, as many as their tensors allow."""
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
    """Run some blocks and compare their float answers."""
    answers, given = names
    wanted = list(dict.fromkeys([*answers, *given]))
    compared = {name: Comparison() for name in answers}
    flows = tapped(reference.model, wanted, feeds[0], "the reference")
    fed = [
        feed | {name + FED: flow[name] for name in given}
        for flow, feed in zip(flows, feeds[1], strict=True)
    ]
    found = tapped(blocks.model, answers, fed, "a block of the candidate")
    for flow, own in zip(flows, found, strict=True):
        for name in answers:
            compared[name].add(flow[name], own[name])
    return compared


def _behind_reordered_queries(graph: ExactGraph, errors: Mapping[str, float]) -> set[str]:
    """Name the tensors that depend on a choice of queries which differs."""
    found: set[str] = set()
    for node in graph.model.graph.node:
        chosen = node.output[1:2] if node.op_type == "TopK" else []
        if any(errors.get(name, 0.0) > 0 for name in chosen) or not found.isdisjoint(node.input):
            found.update(node.output)
    return found
