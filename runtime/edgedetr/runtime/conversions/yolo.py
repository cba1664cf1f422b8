"""`Detections` as YOLO's text: class, cx cy w h in shares of the image, score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.runtime.conversions.rows import detections_of
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from edgedetr.runtime.conversions.rows import Row
    from edgedetr.runtime.types import Detections


def to_yolo(detections: Detections, hw: tuple[int, int]) -> str:
    """Write the detections of an image of a height and width in pixels, a line each."""
    height, width = hw
    rows = zip(detections.labels, detections.boxes.tolist(), detections.scores, strict=True)
    lines = []
    for label, (x0, y0, x1, y1), score in rows:
        places = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height)
        sizes = ((x1 - x0) / width, (y1 - y0) / height)
        shares = " ".join(f"{value:.7f}" for value in (*places, *sizes))
        lines.append(f"{label} {shares} {score:.6f}\n")
    return "".join(lines)


def from_yolo(text: str, hw: tuple[int, int]) -> Detections:
    """Read the detections of an image of a height and width in pixels, best first.

    Raises:
        DataError: If a line has not six numbers, the first a whole one.
    """
    return detections_of(_row(n, line, hw) for n, line in enumerate(text.splitlines(), 1))


def _row(number: int, line: str, hw: tuple[int, int]) -> Row:
    height, width = hw
    try:
        name, *values = line.split()
        label, (x, y, w, h, score) = int(name), map(float, values)
    except ValueError as error:
        raise DataError(f"line {number}: wanted class cx cy w h score") from error
    x0, y0 = (x - w / 2) * width, (y - h / 2) * height
    return (x0, y0, x0 + w * width, y0 + h * height), score, label
