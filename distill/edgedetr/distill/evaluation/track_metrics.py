"""How well tracks follow objects through one sequence: HOTA, CLEAR MOT and identity.

- HOTA: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", 2021.
- MOTA: Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT
  Metrics", 2008.
- IDF1: Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera
  Tracking", 2016.

All of them count; the counts of sequences are added, and the shares are taken of the sums. What the
papers leave open is as in TrackEval, which the benchmarks use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ALPHAS = 0.05 + 0.05 * np.arange(19)
"""The overlaps at which HOTA counts a hit."""
MIN_IOU = 0.5
"""The overlap at which MOTA and IDF1 count a hit."""
_EPSILON = float(np.finfo(float).eps)
_KEEP = 1000.0
"""What it is worth that an object keeps the track it had: more than any sum of overlaps."""


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """What is to be compared in one frame.

    Attributes:
        objects: Number of each labelled object, int64 (G,).
        tracks: Number of the track of each box that was found, int64 (T,).
        overlap: Intersection over union, float64 (G, T).
    """

    objects: NDArray[np.int64]
    tracks: NDArray[np.int64]
    overlap: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HotaCounts:
    """Counts at each of ``ALPHAS``, float64 (19,).

    Attributes:
        hits: Boxes that found an object.
        misses: Objects without a box.
        alarms: Boxes without an object.
        association: Sum over the hits of how well their object's and their track's hits agree.
    """

    hits: NDArray[np.float64]
    misses: NDArray[np.float64]
    alarms: NDArray[np.float64]
    association: NDArray[np.float64]


@dataclass(frozen=True)
class ClearCounts:
    """Counts of CLEAR MOT.

    Attributes:
        hits: Boxes that found an object.
        misses: Objects without a box.
        alarms: Boxes without an object.
        switches: How often an object came to another track than it had.
        overlap: Sum of the hits' overlaps.
    """

    hits: int
    misses: int
    alarms: int
    switches: int
    overlap: float


@dataclass(frozen=True)
class IdentityCounts:
    """Counts under the best one-to-one matching of whole tracks and objects.

    Attributes:
        hits: Boxes on the object that their track stands for.
        misses: Labelled boxes without such a box.
        alarms: Boxes elsewhere.
    """

    hits: int
    misses: int
    alarms: int


def hota(frames: Sequence[TrackedFrame]) -> HotaCounts:
    """Count for HOTA: hits are matched so that objects and tracks agree best over all frames."""
    objects, tracks = _numbering(frames)
    alike = np.zeros((len(objects), len(tracks)))
    of_object, of_track = np.zeros((len(objects), 1)), np.zeros((1, len(tracks)))
    for frame in frames:
        rows, columns = _places(frame, objects, tracks)
        both = frame.overlap.sum(0)[None, :] + frame.overlap.sum(1)[:, None] - frame.overlap
        share = np.divide(
            frame.overlap, both, out=np.zeros_like(frame.overlap), where=both > _EPSILON
        )
        alike[np.ix_(rows, columns)] += share
        of_object[rows] += 1
        of_track[:, columns] += 1
    alike = alike / (of_object + of_track - alike)
    hits = np.zeros((len(ALPHAS), len(objects), len(tracks)))
    for frame in frames:
        rows, columns = _places(frame, objects, tracks)
        g, t = linear_sum_assignment(alike[np.ix_(rows, columns)] * frame.overlap, maximize=True)
        is_hit = frame.overlap[g, t] >= ALPHAS[:, None] - _EPSILON
        hits[:, rows[g], columns[t]] += is_hit
    together = hits / np.maximum(1, of_object + of_track - hits)
    count = hits.sum((1, 2))
    return HotaCounts(
        hits=count,
        misses=of_object.sum() - count,
        alarms=of_track.sum() - count,
        association=(hits * together).sum((1, 2)),
    )


def clear(frames: Sequence[TrackedFrame]) -> ClearCounts:
    """Count for MOTA: an object keeps its track where it can, then overlaps count.

    A frame that has no object, or no box, leaves untouched which track each object had last.
    """
    hits = misses = alarms = switches = 0
    total = 0.0
    ever: dict[int, int] = {}
    last: dict[int, int] = {}
    for frame in frames:
        found: list[tuple[int, int]] = []
        if len(frame.objects) and len(frame.tracks):
            had = np.array([last.get(number, -1) for number in frame.objects.tolist()])
            worth = _KEEP * (had[:, None] == frame.tracks) + frame.overlap
            worth[frame.overlap < MIN_IOU - _EPSILON] = 0
            g, t = linear_sum_assignment(worth, maximize=True)
            kept = worth[g, t] > _EPSILON
            g, t = g[kept], t[kept]
            total += float(frame.overlap[g, t].sum())
            found = list(zip(frame.objects[g].tolist(), frame.tracks[t].tolist(), strict=True))
            switches += sum(ever.get(number, track) != track for number, track in found)
            last = dict(found)
            ever |= last
        hits += len(found)
        misses += len(frame.objects) - len(found)
        alarms += len(frame.tracks) - len(found)
    return ClearCounts(hits, misses, alarms, switches, total)


def identity(frames: Sequence[TrackedFrame]) -> IdentityCounts:
    """Count for IDF1: each track stands for one object at most, chosen over the whole sequence."""
    objects, tracks = _numbering(frames)
    together = np.zeros((len(objects), len(tracks)), np.int64)
    for frame in frames:
        rows, columns = _places(frame, objects, tracks)
        together[np.ix_(rows, columns)] += frame.overlap >= MIN_IOU
    hits = int(together[linear_sum_assignment(together, maximize=True)].sum())
    labelled = sum(len(frame.objects) for frame in frames)
    boxes = sum(len(frame.tracks) for frame in frames)
    return IdentityCounts(hits, labelled - hits, boxes - hits)


def _numbering(frames: Sequence[TrackedFrame]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of all objects and of all tracks, ascending."""
    none = np.zeros(0, np.int64)
    objects = np.unique(np.concatenate([none, *(frame.objects for frame in frames)]))
    tracks = np.unique(np.concatenate([none, *(frame.tracks for frame in frames)]))
    return objects, tracks


def _places(
    frame: TrackedFrame, objects: NDArray[np.int64], tracks: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.searchsorted(objects, frame.objects), np.searchsorted(tracks, frame.tracks)
