"""Compare the activations of two graphs: find the first block that diverges.

Outputs can be right by luck while an activation overflows, and wrong for a reason far ahead of
them. So every float activation is scanned, and each block of the candidate is run on the
reference's inputs of that block: the error of its outputs is then its own, not that of the blocks
before it, nor of queries in another order.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.export.verify.block_errors import BlockError, block_errors
from edgedetr.export.verify.figures import counted
from edgedetr.export.verify.quantizers import quantizer_faults
from edgedetr.export.verify.runner import graph_of
from edgedetr.export.verify.scan import Scan, ScannedModel, scan
from edgedetr.graph.exact import EIGHT_BITS
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.export.verify.runner import Runner
    from edgedetr.export.verify.taps import Values


@dataclass(frozen=True)
class Activations:
    """How the activations of two graphs compare.

    Attributes:
        frames: How many frames they were compared on.
        scans: The scan of each model that has a graph.
        blocks: The error of each block of the candidate, in the order of the graph; empty where
            blocks cannot be compared.
        note: Why they cannot; empty where they can.
        quantizer_faults: Faults of INT8 or FP8 scales and weights, a sentence each.
    """

    frames: int
    scans: tuple[Scan, ...]
    blocks: tuple[BlockError, ...]
    note: str
    quantizer_faults: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Return what makes the gate fail; empty where nothing does.

        A quantized block that diverges has a wrong scale, wrong weights or a wrong wiring, however
        few detections that may cost on these frames: as calibrated it stays below half its limit.
        Float blocks may diverge behind another query selection.
        """
        reasons = [found.reason for found in self.scans if found.reason]
        wrong = [b for b in self.blocks if b.diverges and b.precision in EIGHT_BITS]
        if wrong:
            many = "s diverge from their" if len(wrong) > 1 else " diverges from its"
            kind = wrong[0].precision.upper()
            reasons.append(f"{len(wrong)} {kind} block{many} calibration: {wrong[0].line}")
        if self.quantizer_faults:
            more = len(self.quantizer_faults) - 1
            reasons.append(self.quantizer_faults[0] + (f", and {more} more" if more else ""))
        return "; ".join(reasons)

    @property
    def first_diverging(self) -> str:
        """Name the first block whose own error is beyond its limit, or nothing."""
        return next((block.block for block in self.blocks if block.diverges), "")

    @property
    def lines(self) -> list[str]:
        """Summarize the comparison in a few lines."""
        lines = [found.line for found in self.scans]
        if self.blocks:
            first = next((block for block in self.blocks if block.diverges), None)
            lines.append(
                f"first diverging block: {first.line}"
                if first
                else f"{counted(len(self.blocks), 'block')} compared, none diverges"
            )
        return lines + ([self.note] if self.note else [])

    def block_table(self) -> str:
        """Return the errors of the blocks as a table, one block a line."""
        wide = max(len(block.block) for block in self.blocks)
        names = f"{'type':<5}{'own error':>10}{'limit':>8}{'SQNR dB':>9}{'accumulated':>13}"
        head = f"{'block':<{wide}}  {names}"
        return "\n".join([head, *(block.row(wide) for block in self.blocks)])

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "frames": self.frames,
            "scans": [asdict(found) for found in self.scans],
            "first_departing_block": self.first_diverging,
            "blocks": [block.to_dict() for block in self.blocks],
            "note": self.note,
            "quantizer_faults": list(self.quantizer_faults),
        }


def compare_activations(
    runners: tuple[Runner, Runner],
    names: tuple[str, str],
    frames: Sequence[NDArray[np.uint8]],
    sample: Sequence[NDArray[np.uint8]],
    *,
    traced: bool = False,
) -> Activations | None:
    """Scan the activations of two models and compare their blocks.

    Args:
        runners: The reference and the candidate.
        names: What to call them.
        frames: RGB images, uint8 (H, W, 3).
        sample: The same, chosen by nothing, to judge quantizers on.
        traced: Whether to trace a checkpoint to a graph.

    Returns:
        The comparison; None without frames or without any graph.

    Raises:
        ArtifactError: If a graph does not run.
    """
    graphs = [graph_of(runner, traced=traced) for runner in runners]
    if not frames or graphs == [None, None]:
        return None
    sides = [
        ScannedModel(name, graph, _feeds(runner, frames))
        for name, graph, runner in zip(names, graphs, runners, strict=True)
    ]
    reference, candidate = sides
    errors = scan(reference, candidate)
    blocks: tuple[BlockError, ...] = ()
    faults: tuple[str, ...] = ()
    note = _incomparable(reference, candidate)
    if not note and reference.graph and candidate.graph:
        compared = reference.graph, candidate.graph
        feeds = reference.feeds, candidate.feeds
        faults = quantizer_faults(*compared, _feeds(runners[1], sample))
        try:
            blocks = block_errors(compared, feeds, errors)
        except ArtifactError as error:
            note = f"blocks not compared: {error}"
    scans = tuple(side.scan() for side in sides if side.graph)
    return Activations(len(frames), scans, blocks, note, faults)


def _incomparable(reference: ScannedModel, candidate: ScannedModel) -> str:
    """Return why the blocks of two models cannot be compared; empty where they can."""
    for side in (reference, candidate):
        if side.graph is None:
            return f"blocks not compared: {side.name} has no graph that can be read"
    shared = reference.tensors.keys() & candidate.tensors.keys()
    if 2 * len(shared) < min(len(reference.tensors), len(candidate.tensors)):
        return (
            f"blocks not compared: the graphs share {len(shared)} tensor names, of "
            f"{len(reference.tensors)} and {len(candidate.tensors)}"
        )
    return ""


def _feeds(runner: Runner, frames: Sequence[NDArray[np.uint8]]) -> list[Values]:
    """Preprocess each frame, repeated to the smallest batch that a model takes."""
    spec = runner.spec
    preprocess = Preprocessor(spec)
    feeds = []
    for frame in frames:
        images = np.zeros((runner.batch_sizes[0], 3, *spec.input_hw), np.float32)
        preprocess(frame, images[0])
        images[1:] = images[0]
        feeds.append({spec.input_name: images})
    return feeds
