"""Paired bootstrap over frames: how sure the difference of two models' figures is.

Frames are drawn with replacement, the same ones for both models, so what is hard for both cancels
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.bench.report.matches import NONE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedetr.bench.report.matches import Matches, Objects

RESAMPLES = 400
SEED = 0
_SHARE = 95


@dataclass(frozen=True)
class Interval:
    """A difference and its 95 % interval; NaN where no frame holds an object."""

    difference: float
    low: float
    high: float


def ap50_difference(
    objects: Objects, model: Matches, reference: Matches, frames: int, resamples: int = RESAMPLES
) -> Interval:
    """Return how far a model's AP50 is from a reference's on the same frames.

    Args:
        objects: The labelled objects.
        model: The model's matches.
        reference: The reference's matches.
        frames: How many frames there are.
        resamples: How often frames are drawn.
    """
    draws = frame_draws(frames, resamples)
    return _interval(_ap50(objects, model, draws) - _ap50(objects, reference, draws))


def frame_draws(frames: int, resamples: int = RESAMPLES) -> list[NDArray[np.int64]]:
    """Return how often each frame counts, (F,): at first once, then as often as it is drawn."""
    random = np.random.default_rng(SEED)
    return [
        np.ones(frames, np.int64),
        *(
            np.bincount(random.integers(0, frames, frames), minlength=frames)
            for _ in range(resamples)
        ),
    ]


def share_difference(
    frame: NDArray[np.int64],
    model: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    draws: NDArray[np.float64],
) -> Interval:
    """Return how far the share of objects that a model has is from a reference's.

    Args:
        frame: Index of each object's frame, (O,).
        model: Which objects the model has, such as those that it misses, (O,).
        reference: Which the reference has, (O,).
        draws: `frame_draws` as a table, (R, F).
    """
    by_frame = np.stack(
        [
            np.bincount(frame, weights=weights, minlength=draws.shape[1])
            for weights in (model.astype(np.float64) - reference, np.ones(len(frame)))
        ],
        1,
    )
    change, count = (draws @ by_frame).T
    return _interval(np.where(count > 0, change / np.maximum(count, 1), np.nan))


def _interval(differences: NDArray[np.float64]) -> Interval:
    """Return the first difference, that of all frames, with the interval of the others."""
    known = differences[1:][~np.isnan(differences[1:])]
    if not known.size:
        return Interval(float(differences[0]), float("nan"), float("nan"))
    rest = (100 - _SHARE) / 2
    low, high = np.percentile(known, [rest, 100 - rest])
    return Interval(float(differences[0]), float(low), float(high))


def _ap50(
    objects: Objects, matches: Matches, draws: list[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Return the mean over the classes of AP50 for each draw of frames, by their counts."""
    by_class = [
        _ap_of_class(objects, matches, label, draws) for label in np.unique(objects.label).tolist()
    ]
    if not by_class:
        return np.full(len(draws), np.nan)
    table = np.array(by_class)
    present = ~np.isnan(table)
    total, count = np.where(present, table, 0).sum(0), present.sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _ap_of_class(
    objects: Objects, matches: Matches, label: int, draws: list[NDArray[np.int64]]
) -> list[float]:
    rows = np.flatnonzero((matches.label == label) & ~matches.is_neutral)
    rows = rows[np.argsort(-matches.score[rows], kind="stable")]
    frame = matches.frame[rows]
    hits = np.flatnonzero(matches.found[rows] != NONE)
    own = objects.frame[objects.label == label]
    return [_weighted_ap(counts[frame], hits, int(counts[own].sum())) for counts in draws]


def _weighted_ap(weight: NDArray[np.int64], hits: NDArray[np.intp], objects: int) -> float:
    """Return COCO's AP where each detection counts so often; precision peaks at hits alone."""
    if not objects:
        return float("nan")
    true = weight[hits].cumsum()
    precision = true / np.maximum(weight.cumsum()[hits], 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(true / objects, np.linspace(0, 1, 101))
    return float(np.append(envelope, 0.0)[places].mean())
