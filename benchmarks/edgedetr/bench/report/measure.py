"""Run several models alternately over the same frames, for accuracy and latency in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle
from time import perf_counter_ns
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgedetr.distill.data import Dataset
    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.types import Detections, Frame

BLOCK = 4
"""Frames that a model runs at a stretch, twice, before the next model has its turn.

Short turns share out what else the machine does: with 16, one copy of a model came out
1.7 times slower than another on a busy machine."""
MIN_TIMED_FRAMES = 200
"""Frames of a small split are run again until every model was timed on so many."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The measurements of one model.

    Attributes:
        ran_on: Library, version and device, and how they were chosen.
        detections: What it found in each frame, whatever the score.
        latency_ns: From uint8 frame to detections, of each timed frame.
        model_ns: The network's part of it.
    """

    ran_on: str
    detections: list[Detections] = field(default_factory=list)
    latency_ns: list[int] = field(default_factory=list)
    model_ns: list[int] = field(default_factory=list)


def measure(
    detectors: Sequence[Detector],
    dataset: Dataset,
    frames: int,
    on_frame: Callable[[Frame], object] = lambda _: None,
) -> list[Measured]:
    """Run every model over the first ``frames`` frames of a split.

    The models take turns of `BLOCK` frames, the first to go changing from block to block, so that
    a machine that becomes slower does so for all of them. The frames of a turn are run twice, and
    timed the second time: first they meet caches and threads that the model before has left, and
    in a vehicle there is none before. Threads that wait should sleep: those of one model would spin
    while another is timed.

    Args:
        detectors: The models, of the classes of ``dataset``; their threshold is used as it is.
        dataset: The split.
        frames: How many of its frames to use.
        on_frame: Called with each of these frames once, in their order.

    Returns:
        One result a model, in the order of ``detectors``.

    Raises:
        DataError: If an image cannot be read.
    """
    results = [Measured(detector.backend) for detector in detectors]
    wanted = max(frames, MIN_TIMED_FRAMES)
    starts = cycle(range(0, frames, BLOCK))
    with tqdm(total=wanted, desc="measure", unit="frame", disable=None) as bar:
        for turn, start in enumerate(starts):
            block = [dataset[i].frame for i in range(start, min(start + BLOCK, frames))]
            for frame in block if turn * BLOCK < frames else ():
                on_frame(frame)
            for offset in range(len(detectors)):
                index = (turn + offset) % len(detectors)
                found = _run_block(detectors[index], block, results[index])
                if len(results[index].detections) < frames:
                    results[index].detections.extend(found)
            bar.update(len(block))
            if len(results[0].latency_ns) >= wanted:
                break
    return results


def _run_block(detector: Detector, block: Sequence[Frame], result: Measured) -> list[Detections]:
    for frame in block:
        detector.detect(frame)
    found = []
    for frame in block:
        before = detector.times.infer_ns
        start_ns = perf_counter_ns()
        found.append(detector.detect(frame))
        result.latency_ns.append(perf_counter_ns() - start_ns)
        result.model_ns.append(detector.times.infer_ns - before)
    return found
