"""Match the detections of two models on one frame, whatever the order of their queries.

Where the scores of queries tie, see `edgedetr.export.verify.query_ties`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.runtime.boxes import iou

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from edgedetr.export.verify.limits import Limits
    from edgedetr.runtime.types import Detections

    Floats = NDArray[np.floating[Any]]

MIN_IOU = 0.5
"""Boxes of a lower IoU never match."""
MARGIN = 0.1
"""How far below the threshold the score of a match may lie."""


@dataclass(frozen=True)
class Rule:
    """Which detections of a frame must have a match.

    Attributes:
        threshold: Lowest score of a detection that counts, in [0, 1].
        top: How many of the best detections of a frame count at most; as many as the model's spec
            names when None.
        least: How many of the best detections of a frame count in any case, whatever their score.
    """

    threshold: float = 0.3
    top: int | None = None
    least: int = 0

    def counts(self, found: Detections, max_detections: int) -> NDArray[np.bool_]:
        """Tell which detections of a model count, bool (N,).

        Args:
            found: The detections, best first.
            max_detections: Stands in for ``top`` where it is None.
        """
        rank = np.arange(len(found))
        top = max_detections if self.top is None else self.top
        counting: NDArray[np.bool_] = (rank < self.least) | (found.scores >= self.threshold)
        return counting & (rank < top)


@dataclass(frozen=True, eq=False)
class Pairs:
    """The matched detections of two models on one frame, M pairs.

    Attributes:
        box_errors_px: Of each pair, the largest shift of a side, in source pixels, (M,).
        score_drops: Of each pair, the score in ``a`` less that in ``b``, (M,).
        ious: Of each pair, the IoU of the boxes, (M,).
        unmatched: Detections of either model that count and have no match.
    """

    box_errors_px: Floats
    score_drops: Floats
    ious: Floats
    unmatched: int

    @property
    def score_errors(self) -> Floats:
        """How far the scores of each pair are apart, (M,)."""
        return np.abs(self.score_drops)

    @property
    def compared(self) -> int:
        """How many detections count, a pair once."""
        return len(self) + self.unmatched

    def lost(self, limits: Limits) -> int:
        """Count the detections that have no match within the limits."""
        within = (self.ious >= limits.iou) & (self.score_errors <= limits.score_error)
        if limits.box_error_px is not None:
            within &= self.box_errors_px <= limits.box_error_px
        return self.unmatched + int((~within).sum())

    def __len__(self) -> int:
        return len(self.ious)


def match(a: Detections, b: Detections, rule: Rule, max_detections: int) -> Pairs:
    """Match the detections of two models, greedily.

    Those that count are the best of each model, as the rule says. Each is matched with one of its
    class, with an IoU of at least `MIN_IOU`, among *all* that are given of the other model, so that
    scores of 0.301 and 0.299 match. Pairs with the highest IoU and the nearest scores come first,
    so that scores tell equal boxes apart.

    Args:
        a: Detections of one model, best first, down to `MARGIN` below the threshold.
        b: Likewise of the other.
        rule: What counts.
        max_detections: Stands in for ``rule.top`` where it is None.
    """
    counts_a, counts_b = (rule.counts(found, max_detections) for found in (a, b))
    overlap = iou(a.boxes, b.boxes)
    apart = np.abs(a.scores[:, None] - b.scores[None, :])
    alike = (a.labels[:, None] == b.labels[None, :]) & (overlap >= MIN_IOU)
    rows, columns = np.nonzero(alike & (counts_a[:, None] | counts_b[None, :]))
    order = np.argsort((1 - overlap + apart)[rows, columns], kind="stable")
    i, j = _first_come(rows[order], columns[order], len(a), len(b))
    lonely_a, lonely_b = counts_a.copy(), counts_b.copy()
    lonely_a[i], lonely_b[j] = False, False
    return Pairs(
        box_errors_px=np.abs(a.boxes[i] - b.boxes[j]).max(axis=1, initial=0),
        score_drops=a.scores[i] - b.scores[j],
        ious=overlap[i, j],
        unmatched=int(lonely_a.sum() + lonely_b.sum()),
    )


def _first_come(
    rows: NDArray[np.int64], columns: NDArray[np.int64], n: int, m: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take pairs in order, each row and each column once."""
    free_row, free_column = [True] * n, [True] * m
    taken = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if free_row[row] and free_column[column]:
            free_row[row] = free_column[column] = False
            taken.append((row, column))
    pairs = np.array(taken, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
