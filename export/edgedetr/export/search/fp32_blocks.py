"""Choose the blocks that stay in FP32 so that FP16 holds its limits on images, by measuring.

Rules and ranges (`edgedetr.export.transforms.fp32_rules`) keep in FP32 what overflows in FP16. The
rest is still rounded, and in some models the rounding errors of a block, most often of the first,
reach the scores. Each block is measured alone in FP16; those that cost most for their share of the
work stay in FP32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tqdm import tqdm

from edgedetr.export.search.trial import Trial, unlabelled_scenes
from edgedetr.graph.blocks import block_names
from edgedetr.graph.macs import macs
from edgedetr.graph.wiring import Wiring, label
from edgedetr.runtime.errors import GateError

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.export.search.trial import Effect
    from edgedetr.export.transforms.halve import Halving
    from edgedetr.export.verify.limits import Limits
    from edgedetr.runtime.spec import ModelSpec

MOST = 0.5
"""Largest share of the multiply-accumulates that may stay in FP32 for their error.

With more, FP16 saves less than a quarter of the time that FP32 takes."""

Blocks = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Request:
    """Images and limits of a search.

    Attributes:
        images: A folder of images to measure on.
        frames: How many of them at most, evenly spread.
        limits: The limits that must hold on them.
    """

    images: Path
    frames: int
    limits: Limits


def choose_blocks(halving: Halving, spec: ModelSpec, request: Request) -> Blocks:
    """Choose the blocks that stay in FP32, by measuring on images.

    Args:
        halving: The float32 graph.
        spec: Its contract.
        request: Images and limits.

    Returns:
        Name of each block that must stay in FP32 to the indices of its nodes; none where FP16 holds
        the limits as it is.

    Raises:
        DataError: If the images are missing or damaged, or the model has no detection in them.
        GateError: If the limits do not hold with `MOST` of the work in FP32.
    """
    scenes = unlabelled_scenes(request.images).spread(request.frames)
    with Trial(halving.model, spec, scenes) as trial:
        return find_blocks(halving, trial, request.limits)


def find_blocks(halving: Halving, trial: Trial, limits: Limits) -> Blocks:
    """Keep more blocks in FP32, one after the other, until the limits hold.

    The first are those that alone in FP16 lose most detections, and then shift scores most, for
    each multiply-accumulate. Limits that just hold on these frames may fail on others.

    Args:
        halving: The float32 graph.
        trial: The frames.
        limits: The limits.

    Raises:
        GateError: If they do not hold with `MOST` of the multiply-accumulates in FP32.
    """
    found = _effect(halving, trial, {}, "all in FP16").share(limits)
    if found.holds(limits.lost_share):
        return {}
    blocks, work = _blocks(halving)
    total = sum(work.values())
    least, kept = (found, "no block"), Blocks()
    for name in _costliest_first(halving, trial, limits, blocks, work):
        share = sum(work[n] for n in (*kept, name)) / total
        if share > MOST:
            continue
        kept[name] = blocks[name]
        found = _effect(halving, trial, kept, f"{share:.1%} in FP32").share(limits)
        if found.holds(limits.lost_share):
            return kept
        where = f"{share:.1%} of the multiply-accumulates"
        least = min(least, (found, where), key=lambda pair: pair[0].share)
    raise GateError(
        f"FP16 does not keep {1 - limits.lost_share:.2%} of the detections with "
        f"{limits.describe()} with at most {MOST:.0%} of the multiply-accumulates in FP32; at "
        f"best, with {least[1]} in FP32, {least[0].describe()}. Use FP32, or allow more"
    )


def _costliest_first(
    halving: Halving, trial: Trial, limits: Limits, blocks: Blocks, work: dict[str, int]
) -> list[str]:
    """Measure each block alone in FP16, and sort them by loss per multiply-accumulate."""
    costs = {}
    with tqdm(blocks, desc="blocks", unit="block", disable=None) as bar:
        for name in bar:
            others = {n: nodes for n, nodes in blocks.items() if n != name}
            alone, size = _effect(halving, trial, others, name), max(work[name], 1)
            moved = alone.figures.mean_score_error or 0.0
            costs[name] = alone.share(limits).share / size, moved / size
    return sorted((n for n in blocks if any(costs[n])), key=lambda n: costs[n], reverse=True)


def _effect(halving: Halving, trial: Trial, kept: Blocks, name: str) -> Effect:
    return trial.effect(halving.typed(kept)[0], name)


def _blocks(halving: Halving) -> tuple[Blocks, dict[str, int]]:
    """Group the nodes by block, and count the multiply-accumulates of each."""
    named, counts = block_names(halving.model), macs(halving.model)
    groups: dict[str, list[int]] = {}
    work: dict[str, int] = {}
    for index, node in enumerate(Wiring(halving.model.graph).nodes):
        block = named[label(node)]
        groups.setdefault(block, []).append(index)
        work[block] = work.get(block, 0) + counts.get(label(node), 0)
    return {block: tuple(nodes) for block, nodes in groups.items()}, work
