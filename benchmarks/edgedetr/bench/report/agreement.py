"""How well a student's detections agree with its teacher's, whatever the labels are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedetr.runtime.boxes import iou
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_SCORE = 0.3
"""Detections below this score do not count."""
MIN_IOU = 0.5


def agreement(teacher: Sequence[Detections], student: Sequence[Detections]) -> float:
    """Return the F1 of two models' detections over the same frames, in [0, 1].

    A detection of the one is found by the other when they are paired by `pair`. With P pairs among
    T detections of the teacher and S of the student above `MIN_SCORE`, P / T is the share of the
    teacher's detections that the student finds, P / S the share of the student's that the teacher
    confirms, and the result is their harmonic mean 2 P / (T + S). Two models that find nothing
    agree: 1.
    """
    pairs = total = 0
    for ours, theirs in zip(student, teacher, strict=True):
        a, b = above(ours, MIN_SCORE), above(theirs, MIN_SCORE)
        pairs += len(pair(a, b))
        total += len(a) + len(b)
    return 2 * pairs / total if total else 1.0


def above(detections: Detections, min_score: float) -> Detections:
    """Keep the detections of at least that score, to the last bit of it."""
    keep = detections.scores.astype(np.float64) >= min_score
    return Detections(detections.boxes[keep], detections.scores[keep], detections.labels[keep])


def pair(a: Detections, b: Detections) -> list[tuple[int, int]]:
    """Pair detections of the same class whose IoU is at least `MIN_IOU`, each at most once.

    The pair that overlaps most is taken first.

    Returns:
        Rows of ``a`` and of ``b``.
    """
    overlap = np.where(a.labels[:, None] == b.labels[None, :], iou(a.boxes, b.boxes), 0.0)
    rows, columns = np.nonzero(overlap >= MIN_IOU)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    pairs: list[tuple[int, int]] = []
    free_a, free_b = np.ones(len(a), bool), np.ones(len(b), bool)
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if free_a[row] and free_b[column]:
            pairs.append((row, column))
            free_a[row] = free_b[column] = False
    return pairs
