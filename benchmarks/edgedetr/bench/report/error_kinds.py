"""What kind of error each false detection and each missed object is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.bench.report.agreement import above
from edgedetr.bench.report.matches import MIN_IOU, NONE, match
from edgedetr.bench.report.slices import FALSE_A_FRAME, score_at
from edgedetr.runtime.boxes import iou
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.bench.report.matches import Matches
    from edgedetr.distill.data import Truth

NEAR_IOU = 0.1
"""A box that overlaps an object of its class by less is no poor box of it."""


@dataclass(frozen=True)
class ErrorKinds:
    """How many errors of each kind a model makes at one score.

    Attributes:
        score: Detections of at least that score count, see `slices.FALSE_A_FRAME`.
        found: Objects that are found.
        missed: Objects that are not.
        wrong_class: False detections that lie on an object of another class.
        duplicate: On an object of their class that a surer one found.
        poor_box: Near an object of their class, with an IoU below 0.5.
        background: On nothing.
    """

    score: float
    found: int
    missed: int
    wrong_class: int
    duplicate: int
    poor_box: int
    background: int


def error_kinds(
    truths: Sequence[Truth], detections: Sequence[Detections], matches: Matches
) -> ErrorKinds:
    """Count the errors of a model; each false detection is of one kind, the first that fits.

    Args:
        truths: The labels of each frame.
        detections: What was found in each frame, whatever the score.
        matches: What `match` made of them.
    """
    limit = score_at(matches, len(truths), FALSE_A_FRAME)
    counts = np.zeros(4, np.int64)
    found = 0
    for truth, every in zip(truths, detections, strict=True):
        kept = above(every, limit)
        own = match([truth], [kept])
        found += int((own.found != NONE).sum())
        wrong = own.row[(own.found == NONE) & ~own.is_neutral]
        false = Detections(kept.boxes[wrong], kept.scores[wrong], kept.labels[wrong])
        counts += np.bincount(_kinds(truth, false), minlength=4)
    objects = sum(len(t.labels) for t in truths)
    return ErrorKinds(limit, found, objects - found, *counts.tolist())


def _kinds(truth: Truth, false: Detections) -> NDArray[np.int64]:
    """Return the kind of each: 0 wrong class, 1 duplicate, 2 poor box, 3 background."""
    overlap = iou(false.boxes.astype(np.float64), truth.boxes.astype(np.float64))
    same = false.labels[:, None] == truth.labels
    of_own = np.where(same, overlap, 0).max(1, initial=0)
    of_others = np.where(same, 0, overlap).max(1, initial=0)
    return np.select([of_own >= MIN_IOU, of_others >= MIN_IOU, of_own >= NEAR_IOU], [1, 0, 2], 3)
