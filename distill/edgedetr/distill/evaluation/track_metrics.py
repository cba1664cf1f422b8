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
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    _Indices = tuple[NDArray[np.intp], NDArray[np.intp]]
    """Rows and columns."""

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
    places = [_places(frame, objects, tracks) for frame in frames]
    of_object = np.bincount(_joined([rows for rows, _ in places]), minlength=len(objects))
    of_track = np.bincount(_joined([columns for _, columns in places]), minlength=len(tracks))

    def of_either(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        return of_object[pairs // len(tracks)] + of_track[pairs % len(tracks)]

    shares = [_shares(frame.overlap) for frame in frames]
    near = [_where(share > 0) for share in shares]
    keys = _keys(places, near, len(tracks))
    pairs, place = np.unique(_joined(keys), return_inverse=True)
    met = np.concatenate(
        [np.zeros(0), *(share[at] for share, at in zip(shares, near, strict=True))]
    )
    alike = np.bincount(place, met, len(pairs))
    alike = alike / (of_either(pairs) - alike)
    matched, is_hit = [], [np.zeros((len(ALPHAS), 0), bool)]
    for frame, at, key in zip(frames, near, keys, strict=True):
        worth = np.zeros_like(frame.overlap)
        worth[at] = alike[np.searchsorted(pairs, key)] * frame.overlap[at]
        matched.append(linear_sum_assignment(worth, maximize=True))
        is_hit.append(frame.overlap[matched[-1]] >= ALPHAS[:, None] - _EPSILON)
    pairs, place = np.unique(_joined(_keys(places, matched, len(tracks))), return_inverse=True)
    hits = np.stack([np.bincount(place, row, len(pairs)) for row in np.concatenate(is_hit, 1)])
    together = hits / np.maximum(1, of_either(pairs) - hits)
    count = hits.sum(1)
    return HotaCounts(
        hits=count,
        misses=of_object.sum() - count,
        alarms=of_track.sum() - count,
        association=(hits * together).sum(1),
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
    places = [_places(frame, objects, tracks) for frame in frames]
    near = [_where(frame.overlap >= MIN_IOU) for frame in frames]
    pairs, times = np.unique(_joined(_keys(places, near, len(tracks))), return_counts=True)
    hits = _most(pairs // len(tracks), pairs % len(tracks), times, (len(objects), len(tracks)))
    labelled = sum(len(frame.objects) for frame in frames)
    boxes = sum(len(frame.tracks) for frame in frames)
    return IdentityCounts(hits, labelled - hits, boxes - hits)


def _most(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    times: NDArray[np.int64],
    shape: tuple[int, int],
) -> int:
    """Return the largest sum of ``times`` where each row and each column is used once at most.

    Each row has a column of its own beside them, which is worth nothing: so every row finds one.
    """
    if not len(times):
        return 0
    worst = int(times.max()) + 1
    own = np.arange(shape[0])
    costs = np.concatenate([worst - times, np.full(shape[0], worst)])
    where = (np.concatenate([rows, own]), np.concatenate([columns, shape[1] + own]))
    graph = csr_array((costs, where), shape=(shape[0], sum(shape)))
    found = min_weight_full_bipartite_matching(graph)
    return worst * shape[0] - int(graph[found].sum())


def _numbering(frames: Sequence[TrackedFrame]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of all objects and of all tracks, ascending."""
    objects = np.unique(_joined([frame.objects for frame in frames]))
    tracks = np.unique(_joined([frame.tracks for frame in frames]))
    return objects, tracks


def _places(frame: TrackedFrame, objects: NDArray[np.int64], tracks: NDArray[np.int64]) -> _Indices:
    return np.searchsorted(objects, frame.objects), np.searchsorted(tracks, frame.tracks)


def _where(chosen: NDArray[np.bool_]) -> _Indices:
    rows, columns = np.nonzero(chosen)
    return rows, columns


def _shares(overlap: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each overlap's share of what its object and its track overlap with in the frame."""
    both = overlap.sum(0)[None, :] + overlap.sum(1)[:, None] - overlap
    shares = np.zeros_like(overlap)
    np.divide(overlap, both, out=shares, where=both > _EPSILON)
    return shares


def _keys(
    places: Sequence[_Indices], chosen: Sequence[_Indices], tracks: int
) -> list[NDArray[np.int64]]:
    """Return one number for each pair of an object and a track that is chosen in a frame."""
    return [
        rows[g].astype(np.int64) * tracks + columns[t]
        for (rows, columns), (g, t) in zip(places, chosen, strict=True)
    ]


def _joined(parts: Sequence[NDArray[np.int64] | NDArray[np.intp]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
