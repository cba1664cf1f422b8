"""How far scores can be believed: precision of the detections of each range of scores.

A model is calibrated where of the detections with a score of 0.8, 80 % are right. The expected
calibration error is the mean distance of the two over the ranges, weighted by their detections (Guo
et al., "On Calibration of Modern Neural Networks", 2017; of detections: Küppers et al.,
"Multivariate Confidence Calibration for Object Detection", 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.bench.report.agreement import MIN_SCORE
from edgedetr.bench.report.matches import NONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.bench.report.matches import Matches

RANGES = np.linspace(MIN_SCORE, 1, 8)
"""Limits of the ranges of scores; lower scores do not count, for nobody uses these detections."""


@dataclass(frozen=True)
class ScoreRange:
    """The detections of one range of scores: how many, their mean score and their precision."""

    detections: int
    score: float
    precision: float


@dataclass(frozen=True)
class Reliability:
    """How far the scores of one class can be believed.

    Attributes:
        name: The class, or ``all``.
        ece: Expected calibration error in [0, 1]; NaN without a detection.
        ranges: The ranges that have a detection, from low to high.
    """

    name: str
    ece: float
    ranges: tuple[ScoreRange, ...]


def reliability(matches: Matches, class_names: Sequence[str]) -> tuple[Reliability, ...]:
    """Return that of all detections, and of each class.

    A detection is right where it found an object at an IoU of 0.5; neutral ones do not count.
    """
    counts = ~matches.is_neutral & (matches.score >= MIN_SCORE)
    parts = [("all", counts)]
    parts += [(name, counts & (matches.label == i)) for i, name in enumerate(class_names)]
    return tuple(_reliability(name, matches, rows) for name, rows in parts)


def _reliability(name: str, matches: Matches, rows: NDArray[np.bool_]) -> Reliability:
    score, is_right = matches.score[rows], matches.found[rows] != NONE
    place = np.clip(np.digitize(score, RANGES) - 1, 0, len(RANGES) - 2)
    ranges = tuple(
        ScoreRange(int(inside.sum()), float(score[inside].mean()), float(is_right[inside].mean()))
        for inside in (place == index for index in range(len(RANGES) - 1))
        if inside.any()
    )
    if not ranges:
        return Reliability(name, float("nan"), ())
    distance = sum(r.detections * abs(r.score - r.precision) for r in ranges)
    return Reliability(name, distance / len(score), ranges)
