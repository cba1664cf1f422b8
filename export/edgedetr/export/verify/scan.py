"""Scan the activations of two models for NaN, infinity and FP16 saturation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.export.verify.difference import ON_PURPOSE, Comparison
from edgedetr.export.verify.figures import counted
from edgedetr.export.verify.taps import activations, parts, tapped
from edgedetr.graph.exact import MAX_FP16

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.export.verify.taps import Tensor, Values
    from edgedetr.graph.exact import ExactGraph


@dataclass(frozen=True)
class Broken:
    """An activation with NaN, infinity or saturation.

    Attributes:
        node: Label of the node that makes it.
        tensor: Its name.
        nan: Its NaNs, over all frames.
        infinite: Its infinities where the other model has none.
        saturated: Its FP16 numbers at the largest finite one, 65504.
    """

    node: str
    tensor: str
    nan: int
    infinite: int
    saturated: int


@dataclass(frozen=True)
class Scan:
    """The activations of one model.

    Attributes:
        model: Its file name.
        tensors: How many float activations were scanned.
        broken: Those with NaN, infinity or saturation, in the order of the graph.
    """

    model: str
    tensors: int
    broken: tuple[Broken, ...]

    @property
    def reason(self) -> str:
        """Return where numbers stop being finite; empty where all are."""
        lost = [b for b in self.broken if b.nan or b.infinite]
        if not lost:
            return ""
        first = lost[0]
        return (
            f"{self.model}: {len(lost)} of {counted(self.tensors, 'activation')} not finite, first "
            f"at {first.node} ({first.nan} NaN, {first.infinite} Inf)"
        )

    @property
    def line(self) -> str:
        """Summarize the scan in a line."""
        if self.reason:
            return self.reason
        text = f"{self.model}: {counted(self.tensors, 'activation')}, all finite"
        saturated = [b for b in self.broken if b.saturated]
        if not saturated:
            return text
        first = saturated[0]
        return (
            f"{text}; FP16 saturates in {len(saturated)}, first at {first.node} "
            f"({counted(first.saturated, 'value')})"
        )


class ScannedModel:
    """One of two models, its inputs, and what was counted in its activations.

    Attributes:
        name: What to call it.
        graph: What it computes; None where it has no graph.
        feeds: Its inputs, frame by frame.
        tensors: The activations of the graph.
        counts: NaNs, infinities and saturated numbers of each activation, int64 (3,).
    """

    def __init__(self, name: str, graph: ExactGraph | None, feeds: list[Values]) -> None:
        self.name, self.graph, self.feeds = name, graph, feeds
        self.tensors: dict[str, Tensor] = activations(graph.model) if graph else {}
        self.counts: dict[str, NDArray[np.int64]] = {}

    def run(self, names: Sequence[str]) -> list[Values]:
        """Return those of the named tensors that the graph has, for each frame."""
        own = [name for name in names if name in self.tensors]
        if self.graph is None:
            return [{} for _ in self.feeds]
        return list(tapped(self.graph.model, own, self.feeds, self.name))

    def count(self, name: str, values: np.ndarray, other: np.ndarray | None) -> None:
        """Count NaN, infinity and saturation in an activation of one frame.

        What is as large in the other model is meant, as in an attention mask.
        """
        if values.dtype.kind != "f":
            return
        half = self.graph is not None and name in self.graph.half
        magnitude = np.abs(values)
        meant = np.zeros(values.shape, bool)
        if other is not None and other.shape == values.shape:
            meant = ~(np.abs(other) <= ON_PURPOSE)
        elif not half:
            meant = np.isinf(values)
        found = (
            np.isnan(values),
            np.isinf(values) & ~meant,
            (magnitude >= MAX_FP16) & np.isfinite(values) & ~meant & half,
        )
        so_far = self.counts.setdefault(name, np.zeros(3, np.int64))
        so_far += [int(mask.sum()) for mask in found]

    def scan(self) -> Scan:
        """Return what was counted."""
        broken = (
            Broken(self.tensors[name].node, name, *self.counts[name].tolist())
            for name in self.tensors
            if self.counts.get(name, np.zeros(1)).any()
        )
        return Scan(self.name, len(self.counts), tuple(broken))


def scan(reference: ScannedModel, candidate: ScannedModel) -> dict[str, float]:
    """Scan two models side by side.

    Returns:
        The relative error of every tensor that both have.

    Raises:
        ArtifactError: If a graph does not run.
    """
    names = {**candidate.tensors, **reference.tensors}
    wanted = [t for name, t in names.items() if "::" not in name]
    errors: dict[str, float] = {}
    for part in parts(wanted):
        both = list(zip(reference.run(part), candidate.run(part), strict=True))
        for name in part:
            pairs = [(a.get(name), b.get(name)) for a, b in both]
            for a, b in pairs:
                if a is not None:
                    reference.count(name, a, b)
                if b is not None:
                    candidate.count(name, b, a)
            errors |= _error(name, pairs)
    return errors


def _error(name: str, pairs: list[tuple[np.ndarray | None, np.ndarray | None]]) -> dict[str, float]:
    """Return the relative error of a tensor; nothing where only one graph has it."""
    comparison = Comparison()
    for a, b in pairs:
        if a is None or b is None:
            return {}
        comparison.add(a, b)
    return {name: comparison.difference().relative}
