"""The frames of an evaluation with the most errors, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from edgedetr.pages.pictures import Picture, jpeg_uri
from edgedetr.runtime.boxes import area, intersection, iou
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.distill.data import Dataset, Truth
    from edgedetr.runtime.types import Detections

COUNT = 6
LEAST_SCORE = 0.3
"""From which on a detection counts."""
LEAST_IOU = 0.5
WIDTH_PX = 640
FOUND, MISSED, FALSE = (53, 196, 106), (255, 59, 78), (255, 176, 32)
"""Colours (RGB) of boxes: objects that were found, that were missed, and false alarms."""


class Errors(NamedTuple):
    """What is right and wrong in a frame.

    Attributes:
        missed: Of each object, whether it was missed, (N,).
        false: Boxes of false alarms, xyxy in source pixels (M, 4).
    """

    missed: NDArray[np.bool_]
    false: NDArray[np.float32]

    @property
    def total(self) -> int:
        """How many errors there are."""
        return int(self.missed.sum()) + len(self.false)


def worst_frames(
    dataset: Dataset, found: Sequence[Detections], count: int = COUNT
) -> list[Picture]:
    """Draw the frames with the most errors, the worst first; those without an error are none.

    Args:
        dataset: The split.
        found: What was detected in each of its frames, best first.
        count: How many to draw.
    """
    errors = [errors_of(truth, one) for truth, one in zip(dataset.truths, found, strict=True)]
    order = sorted(range(len(errors)), key=lambda index: -errors[index].total)
    return [
        _picture(dataset, index, errors[index]) for index in order[:count] if errors[index].total
    ]


def errors_of(truth: Truth, found: Detections) -> Errors:
    """Match detections to the objects of their class, the best detection first.

    One that is not matched is no false alarm if half of it lies in an area that is ignored.

    Args:
        truth: The objects of a frame.
        found: What was detected in it, best first, in source pixels.
    """
    sure = found.scores >= LEAST_SCORE
    boxes, labels = found.boxes[sure], found.labels[sure]
    overlaps = iou(boxes, truth.boxes) * (labels[:, None] == truth.labels[None])
    missed = np.ones(len(truth.labels), bool)
    false = np.zeros(len(boxes), bool)
    for row, overlap in enumerate(overlaps):
        free = np.where(missed, overlap, 0.0)
        best = int(free.argmax()) if len(free) else -1
        if best >= 0 and free[best] >= LEAST_IOU:
            missed[best] = False
        else:
            false[row] = True
    if len(truth.ignored):
        inside = intersection(boxes, truth.ignored).max(1)
        false &= inside < 0.5 * area(boxes)
    return Errors(missed, boxes[false])


def _picture(dataset: Dataset, index: int, errors: Errors) -> Picture:
    detail = f"{int(errors.missed.sum())} missed, {len(errors.false)} false alarms"
    name = dataset.ids[index]
    try:
        image = dataset[index].frame.image
    except DataError as error:  # it broke since it was evaluated
        return Picture(name, f"{detail}; {error}", "")
    scale = min(1.0, WIDTH_PX / image.shape[1])
    drawn = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    truth = dataset.truths[index]
    for boxes, colour in (
        (truth.boxes[~errors.missed], FOUND),
        (errors.false, FALSE),
        (truth.boxes[errors.missed], MISSED),
    ):
        for box in boxes:
            x0, y0, x1, y1 = (round(float(side) * scale) for side in box)
            cv2.rectangle(drawn, (x0, y0), (x1, y1), colour, 2)
    return Picture(name, detail, jpeg_uri(drawn.astype(np.uint8, copy=False)))
