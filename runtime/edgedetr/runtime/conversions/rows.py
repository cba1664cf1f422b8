"""`Detections` from rows of any origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.settings import nearest
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Row = tuple[tuple[float, float, float, float], float, int]
"""A detection: corners (x0, y0, x1, y1) in pixels, score, label."""


def detections_of(rows: Iterable[Row]) -> Detections:
    """Make detections of rows, best first; rows of one score keep their order.

    Raises:
        DataError: If a number is not finite, a score is not in 0 to 1 or a label is negative.
    """
    listed = sorted(rows, key=lambda row: -row[1])
    boxes = np.array([box for box, _, _ in listed], np.float64).reshape(-1, 4)
    scores = np.array([score for _, score, _ in listed], np.float64)
    labels = np.array([label for *_, label in listed], np.int64)
    if not np.isfinite(boxes).all():
        raise DataError("a box is not finite; wanted four numbers of pixels")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise DataError("a score is not in 0 to 1")
    if (labels < 0).any():
        raise DataError("a label is negative; wanted an index of the class names")
    return Detections(boxes.astype(np.float32), scores.astype(np.float32), labels)


def label_of(name: str, class_names: Sequence[str]) -> int:
    """Return the index of a class.

    Raises:
        DataError: If there is no such class.
    """
    if name not in class_names:
        raise DataError(f"no class {name!r} among the model's{nearest(name, class_names)}")
    return class_names.index(name)
