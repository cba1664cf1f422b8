"""Look inside two graphs: numbers that are broken, and the first block that departs.

Answers can be right by luck while an activation overflows, and wrong for a reason far ahead of
them. So every float activation is scanned, and each block of the candidate is run on what flows
into that block in the reference: what it answers then is its own error, not that of the blocks
before it, nor of queries that come in another order.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.export.verify.block_errors import ON_PURPOSE, BlockError, Comparison, block_errors
from edgedetr.export.verify.quantizers import quantizer_faults
from edgedetr.export.verify.taps import activations, parts, tapped
from edgedetr.graph.exact import MAX_FP16, ExactGraph
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.export.verify.runner import Runner
    from edgedetr.export.verify.taps import Tensor, Values


@dataclass(frozen=True)
class Broken:
    """An activation with numbers that it should not have.

    Attributes:
        node: Label of the node that makes it.
        tensor: Its name.
        nan: NaNs in it, over all frames.
        infinite: Infinite numbers that the other model does not have there.
        saturated: Numbers in FP16 at its largest, 65504, that are finite.
    """

    node: str
    tensor: str
    nan: int
    infinite: int
    saturated: int


@dataclass(frozen=True)
class Scan:
    """What was found in the activations of one model.

    Attributes:
        model: Its file name.
        tensors: Float activations that were looked at.
        broken: Those with NaN, infinity or saturation, in the order of the graph.
    """

    model: str
    tensors: int
    broken: tuple[Broken, ...]

    @property
    def reason(self) -> str:
        """Say where numbers stop being finite; empty where they never do."""
        lost = [b for b in self.broken if b.nan or b.infinite]
        if not lost:
            return ""
        first = lost[0]
        return (
            f"{len(lost)} of {self.tensors} activations of {self.model} are not finite, first "
            f"{first.node}: {first.nan} NaN, {first.infinite} infinite"
        )

    @property
    def line(self) -> str:
        """Say it in a line."""
        saturated = [b for b in self.broken if b.saturated]
        if self.reason or not saturated:
            return self.reason or f"{self.model}: {self.tensors} activations, all finite"
        return (
            f"{self.model}: {self.tensors} activations, all finite; FP16 is at its end in "
            f"{len(saturated)}, first {saturated[0].node}: {saturated[0].saturated} numbers"
        )


@dataclass(frozen=True)
class Activations:
    """What was found inside two graphs.

    Attributes:
        frames: Frames that were looked at.
        scans: What each graph that could be read holds.
        blocks: How each block of the candidate computes, in the order of the graph; empty where
            blocks cannot be compared.
        note: Why not; empty where they can.
        quantizer_faults: What is wrong with INT8 scales and weights, a sentence each.
    """

    frames: int
    scans: tuple[Scan, ...]
    blocks: tuple[BlockError, ...]
    note: str
    quantizer_faults: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Say what does not hold; empty where all does.

        An INT8 block that departs has a wrong scale, wrong weights or a wrong wiring, however few
        detections that may cost on these frames: what is written as calibrated stays below half of
        what is explained. Others may depart behind queries that were chosen otherwise.
        """
        reasons = [scan.reason for scan in self.scans if scan.reason]
        wrong = [b for b in self.blocks if b.departs and b.precision == "int8"]
        if wrong:
            reasons.append(f"{len(wrong)} INT8 blocks are not what was calibrated: {wrong[0].line}")
        if self.quantizer_faults:
            more = len(self.quantizer_faults) - 1
            reasons.append(self.quantizer_faults[0] + (f", and {more} more" if more else ""))
        return "; ".join(reasons)

    @property
    def first_departing(self) -> str:
        """Name the first block whose own error its precision does not explain, or nothing."""
        return next((block.block for block in self.blocks if block.departs), "")

    @property
    def lines(self) -> list[str]:
        """Say it in a few lines."""
        lines = [scan.line for scan in self.scans]
        if self.blocks:
            first = next((block for block in self.blocks if block.departs), None)
            count = len(self.blocks)
            lines.append(
                f"first block that departs: {first.line}"
                if first
                else f"no block of {count} departs by more than its precision explains"
            )
        return lines + ([self.note] if self.note else [])

    def block_table(self) -> str:
        """Say how each block computes, one a line."""
        wide = max(len(block.block) for block in self.blocks)
        names = f"{'type':<5}{'own error':>10}{'limit':>8}{'SQNR dB':>9}{'carried':>10}"
        head = f"{'block':<{wide}}  {names}"
        return "\n".join([head, *(block.row(wide) for block in self.blocks)])

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "frames": self.frames,
            "scans": [asdict(scan) for scan in self.scans],
            "first_departing_block": self.first_departing,
            "blocks": [block.to_dict() for block in self.blocks],
            "note": self.note,
            "quantizer_faults": list(self.quantizer_faults),
        }


def look_inside(
    runners: tuple[Runner, Runner],
    names: tuple[str, str],
    frames: Sequence[NDArray[np.uint8]],
    *,
    traced: bool = False,
) -> Activations | None:
    """Scan the activations of two models and compare their blocks.

    Args:
        runners: The reference and the candidate.
        names: What to call them.
        frames: RGB images, uint8 (H, W, 3).
        traced: Whether a checkpoint is traced to a graph.

    Returns:
        What was found; None without frames or without any graph.

    Raises:
        ArtifactError: If a graph does not run.
    """
    from edgedetr.export.verify.runner import graph_of

    graphs = [graph_of(runner, traced=traced) for runner in runners]
    if not frames or graphs == [None, None]:
        return None
    sides = [
        _Side(name, graph, _feeds(runner, frames))
        for name, graph, runner in zip(names, graphs, runners, strict=True)
    ]
    reference, candidate = sides
    errors = _scan(reference, candidate)
    blocks: tuple[BlockError, ...] = ()
    faults: tuple[str, ...] = ()
    note = _incomparable(reference, candidate)
    if not note and reference.graph and candidate.graph:
        compared = reference.graph, candidate.graph
        feeds = reference.feeds, candidate.feeds
        faults = quantizer_faults(*compared, candidate.feeds)
        try:
            blocks = block_errors(compared, feeds, errors)
        except ArtifactError as error:
            note = f"the blocks were not compared: {error}"
    scans = tuple(side.scan() for side in sides if side.graph)
    return Activations(len(frames), scans, blocks, note, faults)


class _Side:
    """One of two models, with what it is fed and what was counted in it."""

    def __init__(self, name: str, graph: ExactGraph | None, feeds: list[Values]) -> None:
        self.name, self.graph, self.feeds = name, graph, feeds
        self.tensors: dict[str, Tensor] = activations(graph.model) if graph else {}
        self.counts: dict[str, NDArray[np.int64]] = {}

    def run(self, names: Sequence[str]) -> list[Values]:
        """Return those of the tensors that the graph has, for each frame."""
        own = [name for name in names if name in self.tensors]
        if self.graph is None:
            return [{} for _ in self.feeds]
        return tapped(self.graph.model, own, self.feeds, self.name)

    def count(self, name: str, values: np.ndarray, other: np.ndarray | None) -> None:
        """Count NaN, infinity and saturation in an activation of one frame."""
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
        """Say what was counted."""
        broken = (
            Broken(self.tensors[name].node, name, *self.counts[name].tolist())
            for name in self.tensors
            if self.counts.get(name, np.zeros(1)).any()
        )
        return Scan(self.name, len(self.counts), tuple(broken))


def _scan(reference: _Side, candidate: _Side) -> dict[str, float]:
    """Count broken numbers in both; return the relative error of every tensor that both have."""
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
    """Return the relative error of a tensor that both graphs have; nothing for the others."""
    comparison = Comparison()
    for a, b in pairs:
        if a is None or b is None:
            return {}
        comparison.add(a, b)
    return {name: comparison.difference().relative}


def _incomparable(reference: _Side, candidate: _Side) -> str:
    """Say why the blocks of two models cannot be compared; empty where they can."""
    for side in (reference, candidate):
        if side.graph is None:
            return f"the blocks were not compared: {side.name} was not read as a graph"
    shared = reference.tensors.keys() & candidate.tensors.keys()
    if 2 * len(shared) < min(len(reference.tensors), len(candidate.tensors)):
        return (
            f"the blocks were not compared: the graphs share {len(shared)} of "
            f"{len(reference.tensors)} and {len(candidate.tensors)} tensor names"
        )
    return ""


def _feeds(runner: Runner, frames: Sequence[NDArray[np.uint8]]) -> list[Values]:
    """Prepare each frame as often as a model takes it at once."""
    spec = runner.spec
    preprocess = Preprocessor(spec)
    feeds = []
    for frame in frames:
        images = np.zeros((runner.batch_sizes[0], 3, *spec.input_hw), np.float32)
        preprocess(frame, images[0])
        images[1:] = images[0]
        feeds.append({spec.input_name: images})
    return feeds
