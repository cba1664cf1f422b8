"""The matching behind KITTI's average precision, vectorised over frames and score thresholds.

The rules are those of the object benchmark's official development kit (``evaluate_object.cpp``).
Its loops run over score thresholds, frames, labels and detections. Here the few pairs that overlap
enough are listed once for all frames, and the loop that must stay sequential (a label takes its
detection before the next label chooses) runs over the place of a pair within its frame, for all
frames and all thresholds together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

POINTS = 41
"""Points of a precision-recall curve: recall 0, 1/40, ..., 1."""
PAIRS_AT_ONCE = 1 << 16
"""About how many pairs of boxes are compared in one go: bounds the memory, fits the cache."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Detections and labels of the same frame that overlap enough, P of them.

    Attributes:
        detection: Row of the detection, int64 (P,).
        label: Row of the label, int64 (P,).
        overlap: What they share, in (0, 1], float64 (P,).
    """

    detection: NDArray[np.int64]
    label: NDArray[np.int64]
    overlap: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contest:
    """One class at one difficulty: who takes part, and who counts.

    A detection takes part when it is *counted* or *small*; a small one, of any class, can take a
    label but is neither hit nor false alarm. A label that is not *wanted* can take a detection,
    which then is neither.

    Attributes:
        pairs: What overlaps; labels ordered by frame.
        frames: Frame of each label, int64 (G,), ascending.
        scores: Score of each detection, float64 (D,).
        counted: Detections of the class that are high enough, bool (D,).
        small: Detections below the difficulty's height, bool (D,).
        absorbed: Detections inside a DontCare area: no false alarm, bool (D,).
        wanted: Labels that must be found, bool (G,).
    """

    pairs: Pairs
    frames: NDArray[np.int64]
    scores: NDArray[np.float64]
    counted: NDArray[np.bool_]
    small: NDArray[np.bool_]
    absorbed: NDArray[np.bool_]
    wanted: NDArray[np.bool_]


def precision_recall(contest: Contest) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the curve's precision (41,), monotone from the right, and the recall (41,) it has.

    Points beyond the last score threshold are 0 in both, as in the development kit: a class with
    fewer than 41 hits fills only that many points. Where nothing was counted at a threshold (every
    detection neutral) the development kit divides 0 by 0; here such a point has precision 0.
    """
    thresholds = score_thresholds(_hit_scores(contest), int(contest.wanted.sum()))
    hits, misses, alarms = _count(contest, thresholds)
    precision, recall = np.zeros(POINTS), np.zeros(POINTS)
    n = len(thresholds)
    precision[:n] = _share(hits, hits + alarms)
    recall[:n] = _share(hits, hits + misses)
    return np.maximum.accumulate(precision[::-1])[::-1], recall


def score_thresholds(hit_scores: NDArray[np.float64], num_wanted: int) -> NDArray[np.float64]:
    """Choose the scores whose recall comes nearest to 0, 1/40, ..., 1; at most 41, falling.

    Args:
        hit_scores: Scores of the detections that hit a wanted label when none is left out.
        num_wanted: How many labels are wanted, hit or not.

    >>> score_thresholds(np.array([0.2, 0.9, 0.5]), 4).tolist()
    [0.9, 0.5, 0.2]
    """
    falling = np.sort(hit_scores)[::-1]
    rank = np.arange(1, len(falling) + 1)
    recall = rank / num_wanted
    recall_after = np.where(rank < len(falling), rank + 1, rank) / num_wanted
    chosen: list[int] = []
    target, start = 0.0, 0
    while start < len(falling):
        nearest = recall_after[start:] - target >= target - recall[start:]
        nearest[-1] = True  # the last hit always is a point
        chosen.append(start + int(nearest.argmax()))
        start = chosen[-1] + 1
        target += 1.0 / (POINTS - 1.0)  # summed as the development kit does, rounding included
    return falling[chosen]


def overlapping_pairs(
    detections: tuple[NDArray[np.int64], NDArray[np.float64]],
    labels: tuple[NDArray[np.int64], NDArray[np.float64]],
    min_overlap: float,
    *,
    over_union: bool,
) -> Pairs:
    """List the pairs of one frame whose overlap is strictly greater than ``min_overlap``.

    Args:
        detections: Frames (D,) and boxes (D, 4), corners in pixels.
        labels: Frames (G,), ascending, and boxes (G, 4).
        min_overlap: The limit, in [0, 1).
        over_union: Divide the shared area by the union's (True) or by the detection's (False).
    """
    frames, boxes = detections
    label_frames, label_boxes = labels
    first = np.searchsorted(label_frames, frames, "left")
    count = np.searchsorted(label_frames, frames, "right") - first
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for rows in _portions(count):
        a = np.repeat(rows, count[rows])
        before = np.cumsum(count[rows]) - count[rows]
        b = np.arange(len(a)) + np.repeat(first[rows] - before, count[rows])
        overlap = _overlap(boxes[a], label_boxes[b], over_union=over_union)
        enough = overlap > min_overlap
        found.append((a[enough], b[enough], overlap[enough]))
    return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _portions(count: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Split rows so that a portion holds about ``PAIRS_AT_ONCE`` pairs; at least one portion."""
    rows = np.arange(len(count))
    portion = np.cumsum(count) // PAIRS_AT_ONCE
    yield from np.split(rows, np.flatnonzero(np.diff(portion)) + 1)


def _overlap(
    a: NDArray[np.float64], b: NDArray[np.float64], *, over_union: bool
) -> NDArray[np.float64]:
    """Row by row; operations in the order of the development kit, so that equality is exact."""
    size = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = size[:, 0] * size[:, 1]
    whole = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    if over_union:
        whole = whole + (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) - shared
    overlap = np.zeros(len(shared))
    np.divide(shared, whole, out=overlap, where=(size > 0).all(axis=1))
    return overlap


def _hit_scores(contest: Contest) -> NDArray[np.float64]:
    """Return the scores of the hits when each label takes its highest-scored detection."""
    pairs = _taking_part(contest)
    order = np.lexsort((pairs.detection, -contest.scores[pairs.detection], pairs.label))
    pairs = _reordered(pairs, order)
    taken = _take(pairs, contest, np.array([-np.inf]))[:, 0]
    hit = taken & contest.wanted[pairs.label] & contest.counted[pairs.detection]
    return contest.scores[pairs.detection[hit]]


def _count(
    contest: Contest, thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return hits, misses and false alarms (T,), detections below each threshold left out.

    Each label takes the counted detection of the greatest overlap; failing that, the first small
    one.
    """
    pairs = _taking_part(contest)
    preference = np.where(contest.small[pairs.detection], 0.0, -pairs.overlap)
    order = np.lexsort((pairs.detection, preference, pairs.label))
    pairs = _reordered(pairs, order)
    taken = _take(pairs, contest, thresholds)
    wanted = contest.wanted[pairs.label]
    hits = taken[wanted & contest.counted[pairs.detection]].sum(axis=0)
    misses = contest.wanted.sum() - taken[wanted].sum(axis=0)
    suspects = contest.counted & ~contest.absorbed
    rising = np.sort(contest.scores[suspects])
    alarms = len(rising) - np.searchsorted(rising, thresholds, "left")
    alarms -= taken[suspects[pairs.detection]].sum(axis=0)
    return hits, misses, alarms


def _take(pairs: Pairs, contest: Contest, thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which pairs come about at each threshold, bool (P, T).

    ``pairs`` must be ordered by label, and within a label by what the label prefers. A pair comes
    about when its detection reaches the threshold and neither side is taken.
    """
    detections, detection = np.unique(pairs.detection, return_inverse=True)
    labels, label = np.unique(pairs.label, return_inverse=True)
    free_detection = contest.scores[detections, None] >= thresholds
    free_label = np.ones((len(labels), len(thresholds)), bool)
    taken = np.zeros((len(label), len(thresholds)), bool)
    for rows in _rounds(contest.frames[pairs.label]):
        d, g = detection[rows], label[rows]
        now = free_detection[d] & free_label[g]
        taken[rows] = now
        free_detection[d] &= ~now
        free_label[g] &= ~now
    return taken


def _rounds(frames: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the first pair of every frame, then the second of those that have one, and so on."""
    place = np.arange(len(frames)) - np.searchsorted(frames, frames, "left")
    order = np.argsort(place, kind="stable")
    ends = np.cumsum(np.bincount(place))
    yield from np.split(order, ends[:-1]) if len(frames) else ()


def _taking_part(contest: Contest) -> Pairs:
    detection = contest.pairs.detection
    return _reordered(contest.pairs, contest.counted[detection] | contest.small[detection])


def _reordered(pairs: Pairs, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Pairs:
    return Pairs(pairs.detection[rows], pairs.label[rows], pairs.overlap[rows])


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
