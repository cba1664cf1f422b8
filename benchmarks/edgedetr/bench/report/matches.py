"""Which detection found which object, once for a model: what slices and error kinds count.

The matching is COCO's at IoU 0.5: in each frame and class the surest detection goes first and
takes the free object that it overlaps most; one that finds none is neutral where half of it lies
in an ignored area.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.runtime.boxes import area, intersection, iou

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.distill.data import Truth
    from edgedetr.runtime.types import Detections

MIN_IOU = 0.5
MOST_A_CLASS = 100
"""Detections of a frame and class that count, the surest."""
NONE = -1


@dataclass(frozen=True, eq=False)
class Objects:
    """The labelled objects of a split, O in all, frame after frame.

    Attributes:
        frame: Index of each one's frame, int64 (O,).
        label: Class, int64 (O,).
        height: Of the box, in source pixels, float64 (O,).
        area: Of the box, in square pixels, float64 (O,).
        occlusion: KITTI's 0 to 3, int64 (O,).
        truncation: Share outside the image, float64 (O,).
        distance: In front of the camera, in metres, NaN where unknown, float64 (O,); None where no
            label has it.
        brightness: Mean of the frame's pixels in [0, 255], float64 (O,); None where not measured.
    """

    frame: NDArray[np.int64]
    label: NDArray[np.int64]
    height: NDArray[np.float64]
    area: NDArray[np.float64]
    occlusion: NDArray[np.int64]
    truncation: NDArray[np.float64]
    distance: NDArray[np.float64] | None = None
    brightness: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of a model's detections, D in all, in no order of meaning.

    Attributes:
        frame: Index of each one's frame, int64 (D,).
        label: Class, int64 (D,).
        score: Score, float64 (D,).
        found: Index of the object that it found, `NONE` for no object, int64 (D,).
        is_neutral: Found no object, but lies in an ignored area, bool (D,).
        row: Which of its frame's detections it is, int64 (D,).
    """

    frame: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    found: NDArray[np.int64]
    is_neutral: NDArray[np.bool_]
    row: NDArray[np.int64]


def all_objects(
    truths: Sequence[Truth],
    distance: NDArray[np.float64] | None = None,
    brightness: Sequence[float] | None = None,
) -> Objects:
    """Join the objects of all frames.

    Args:
        truths: The labels of each frame.
        distance: Of each object, as `Objects` has it.
        brightness: Of each frame.
    """
    boxes = np.concatenate([t.boxes for t in truths]).astype(np.float64)
    frame = np.repeat(np.arange(len(truths)), [len(t.labels) for t in truths])
    return Objects(
        frame=frame,
        label=np.concatenate([t.labels for t in truths]),
        height=boxes[:, 3] - boxes[:, 1],
        area=area(boxes).astype(np.float64),
        occlusion=np.concatenate([t.occlusion for t in truths]),
        truncation=np.concatenate([t.truncation for t in truths]).astype(np.float64),
        distance=distance,
        brightness=None if brightness is None else np.array(brightness, np.float64)[frame],
    )


def match(truths: Sequence[Truth], detections: Sequence[Detections]) -> Matches:
    """Match a model's detections with the labels of the same frames."""
    parts: list[tuple[NDArray[Any], ...]] = []
    first = 0
    for frame, (truth, found) in enumerate(zip(truths, detections, strict=True)):
        for label in np.unique(found.labels).tolist():
            rows = np.flatnonzero(found.labels == label)
            rows = rows[np.argsort(-found.scores[rows], kind="stable")][:MOST_A_CLASS]
            taken, neutral = _match_class(truth, label, found.boxes[rows].astype(np.float64))
            taken = np.where(taken == NONE, NONE, taken + first)
            where = np.full(len(rows), frame)
            kind = np.full(len(rows), label)
            parts.append((where, kind, found.scores[rows], taken, neutral, rows))
        first += len(truth.labels)
    if not parts:
        none = np.zeros(0, np.int64)
        return Matches(none, none, none.astype(np.float64), none, none.astype(bool), none)
    frames, labels, scores, objects, neutrals, rows = map(np.concatenate, zip(*parts, strict=True))
    return Matches(frames, labels, scores.astype(np.float64), objects, neutrals.astype(bool), rows)


def _match_class(
    truth: Truth, label: int, boxes: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Match the detections of one class, the surest first.

    Returns:
        The object in the frame that each found, and whether one that found none is neutral.
    """
    objects = np.flatnonzero(truth.labels == label)
    found = np.full(len(boxes), NONE)
    overlap = iou(boxes, truth.boxes[objects].astype(np.float64))
    for row in np.flatnonzero((overlap >= MIN_IOU).any(1)).tolist():
        best = int(overlap[row].argmax())
        if overlap[row, best] >= MIN_IOU:
            found[row] = objects[best]
            overlap[:, best] = 0
    areas = truth.ignored[(truth.ignored_by == label) | (truth.ignored_by < 0)].astype(np.float64)
    shared = intersection(boxes, areas).max(1, initial=0)
    return found, (found == NONE) & (shared >= MIN_IOU * np.maximum(area(boxes), 1e-9))


def average_precision(
    score: NDArray[np.float64], is_true: NDArray[np.bool_], objects: int
) -> float:
    """Return COCO's AP: mean of the precision at 101 recall points; NaN without an object.

    Args:
        score: Of each detection that counts, (D,).
        is_true: Whether it found an object, (D,).
        objects: How many there were to find.
    """
    if not objects:
        return float("nan")
    hits = is_true[np.argsort(-score, kind="stable")].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / objects, np.linspace(0, 1, 101))
    return float(np.append(envelope, 0.0)[places].mean())
