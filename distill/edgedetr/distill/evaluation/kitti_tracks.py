"""What KITTI's tracking benchmark counts in a sequence.

A labelled object counts where it is of the class, not truncated, and at most largely occluded. A
box that lies on another one of these (a Van beside Car, a sitting person beside Pedestrian, one
that is truncated or whose occlusion is unknown) is neither a hit nor an alarm; nor is one on no
object that is at most 25 px high, or more than half of which lies in a DontCare area. Boxes and
objects are matched for this in each frame by itself, at an overlap of 0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from edgedetr.distill.evaluation.track_metrics import MIN_IOU, TrackedFrame
from edgedetr.distill.labels.kitti_files import DONT_CARE
from edgedetr.runtime.boxes import area, intersection, iou

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedetr.distill.labels.kitti_tracks import TrackTable

CLASSES = ("Car", "Pedestrian")
"""What the benchmark scores."""
NEUTRAL = {"car": ("van",), "pedestrian": ("person", "person_sitting")}
MAX_OCCLUSION = 2
MAX_TRUNCATION = 0
MIN_HEIGHT_PX = 25
_EPSILON = float(np.finfo(float).eps)


def counted_frames(labels: TrackTable, found: TrackTable, name: str) -> list[TrackedFrame]:
    """Return what counts of a class in each frame that has a label or a box of it.

    Args:
        labels: The labels of a sequence.
        found: The tracks of the same sequence.
        name: One of ``CLASSES``.
    """
    own = name.lower()
    kinds = np.char.lower(labels.types)
    areas = kinds == DONT_CARE
    objects = np.isin(kinds, [own, *NEUTRAL[own]]) & (labels.tracks >= 0)
    boxes = (np.char.lower(found.types) == own) & (found.tracks >= 0)
    counts = (
        (kinds == own) & (labels.occluded <= MAX_OCCLUSION) & (labels.truncated <= MAX_TRUNCATION)
    )
    of_labels, of_found = _by_frame(labels.frames), _by_frame(found.frames)
    none = np.zeros(0, np.int64)
    frames = []
    for number in np.union1d(labels.frames[objects], found.frames[boxes]).tolist():
        here, there = of_labels.get(number, none), of_found.get(number, none)
        rows, columns = here[objects[here]], there[boxes[there]]
        overlap = iou(labels.boxes[rows], found.boxes[columns]).astype(np.float64)
        ignored = labels.boxes[here[areas[here]]]
        kept = ~_neutral(overlap, counts[rows], found.boxes[columns], ignored)
        wanted = counts[rows]
        frames.append(
            TrackedFrame(
                labels.tracks[rows[wanted]],
                found.tracks[columns[kept]],
                overlap[np.ix_(wanted, kept)],
            )
        )
    return frames


def _by_frame(frames: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Return the places of the boxes of each frame, in their order."""
    order = np.argsort(frames, kind="stable")
    numbers, starts = np.unique(frames[order], return_index=True)
    return (
        dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}
    )


def _neutral(
    overlap: NDArray[np.float64],
    counts: NDArray[np.bool_],
    boxes: NDArray[np.float64],
    ignored: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Tell which boxes of a frame are neither hits nor alarms.

    Args:
        overlap: Of the objects of the class and its neutral ones with the boxes, (G, T).
        counts: Which of the objects count, (G,).
        boxes: Corners, (T, 4).
        ignored: Corners of the DontCare areas, (M, 4).
    """
    close = np.where(overlap < MIN_IOU - _EPSILON, 0, overlap)
    g, t = linear_sum_assignment(close, maximize=True)
    matched = close[g, t] > _EPSILON
    g, t = g[matched], t[matched]
    is_free = np.ones(len(boxes), bool)
    is_free[t] = False
    small = boxes[:, 3] - boxes[:, 1] <= MIN_HEIGHT_PX + _EPSILON
    within = intersection(boxes, ignored).max(1, initial=0) > (0.5 + _EPSILON) * area(boxes)
    neutral: NDArray[np.bool_] = is_free & (small | within)
    neutral[t[~counts[g]]] = True
    return neutral
