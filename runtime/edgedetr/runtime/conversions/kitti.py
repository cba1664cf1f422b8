"""`Detections` as the text of a KITTI result file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.runtime.conversions.rows import detections_of, label_of
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.runtime.conversions.rows import Row
    from edgedetr.runtime.types import Detections

COLUMNS = 16


def to_kitti(detections: Detections, class_names: Sequence[str]) -> str:
    """Write detections as KITTI's result file, best first; no detection makes an empty file.

    The columns are type, truncation, occlusion, alpha, the box (x0 y0 x1 y1 in pixels), height,
    width and length, x y z, rotation and score. What a 2-D detector does not know has KITTI's
    value for it: -1 -1 -10, -1 -1 -1, -1000 -1000 -1000, -10. A space in a class name, which would
    make a column, becomes an underscore.
    """
    rows = zip(detections.labels, detections.boxes, detections.scores, strict=True)
    return "".join(
        f"{_column(class_names[label])} -1 -1 -10 "
        f"{box[0]:.2f} {box[1]:.2f} {box[2]:.2f} {box[3]:.2f} "
        f"-1 -1 -1 -1000 -1000 -1000 -10 {score:.6f}\n"
        for label, box, score in rows
    )


def from_kitti(text: str, class_names: Sequence[str]) -> Detections:
    """Read the text of a result file.

    Raises:
        DataError: If a line has not 16 columns, or no such class, box or score.
    """
    columns = [_column(name) for name in class_names]
    return detections_of(_row(n, line, columns) for n, line in enumerate(text.splitlines(), 1))


def _row(number: int, line: str, columns: Sequence[str]) -> Row:
    values = line.split()
    wanted = f"line {number}: wanted KITTI's 16 columns, the last the score"
    if len(values) != COLUMNS:
        raise DataError(f"{wanted}; found {len(values)}")
    try:
        x0, y0, x1, y1, *_, score = map(float, values[4:])
    except ValueError as error:
        raise DataError(f"{wanted}; found {error}") from error
    return (x0, y0, x1, y1), score, label_of(values[0], columns)


def _column(class_name: str) -> str:
    return "_".join(class_name.split())
