"""Count what an engine finds and the ONNX model that it was built from does not, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.runtime.boxes import iou

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.runtime.types import Detections

THRESHOLD = 0.3
"""Lowest score of a detection that counts."""
MARGIN = 0.1
"""How far below it the score of its match may lie, and how far the scores of a match may differ."""
MIN_IOU = 0.8
"""Lowest IoU of a match: the gate of `edgedetr verify` for INT8 has the same limits."""
MOST_LOST = 0.1
"""The largest share of detections without a match."""


@dataclass(frozen=True)
class Agreement:
    """How far two models agree.

    Attributes:
        frames: Frames that both have seen.
        detections: Detections of either that count.
        lost: Of these, those without a match in the other.
    """

    frames: int
    detections: int
    lost: int

    @property
    def holds(self) -> bool:
        """Whether there was something to compare, and few detections were lost."""
        return self.detections > 0 and self.lost <= MOST_LOST * self.detections


def agreement(reference: Sequence[Detections], found: Sequence[Detections]) -> Agreement:
    """Compare the detections of two models in the same frames.

    Args:
        reference: Of one model, of each frame those with a score of at least THRESHOLD - MARGIN.
        found: Likewise of the other.
    """
    counted, lost = 0, 0
    for a, b in zip(reference, found, strict=True):
        for one, other in ((a, b), (b, a)):
            counts = one.scores >= THRESHOLD
            counted += int(counts.sum())
            lost += int((counts & ~_matched(one, other)).sum())
    return Agreement(len(found), counted, lost)


def _matched(one: Detections, other: Detections) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Tell of each detection whether the other model has one like it, bool (N,)."""
    alike = iou(one.boxes, other.boxes) >= MIN_IOU
    alike &= one.labels[:, None] == other.labels[None, :]
    alike &= np.abs(one.scores[:, None] - other.scores[None, :]) <= MARGIN
    return np.asarray(alike.any(axis=1))
