"""KITTI's label files and detection files: their columns, read and checked line by line.

The columns (the benchmark's development kit): type, truncated, occluded, alpha, the 2-D box (left,
top, right, bottom in pixels), height, width, length in metres, location (x, y, z in metres, camera
frame), rotation_y, and for detections a score. Classes may be others than KITTI's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgedetr.distill.labels.coco_entries import short
from edgedetr.distill.labels.label_files import read_label_text
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

KNOWN_CLASSES = (
    "Car",
    "Van",
    "Truck",
    "Pedestrian",
    "Person_sitting",
    "Cyclist",
    "Tram",
    "Misc",
    "DontCare",
)
DONT_CARE = "dontcare"
"""The type, in lower case, of an area that is neither object nor background for any class."""
NEUTRAL = {"van": "car", "person_sitting": "pedestrian"}
"""The types, in lower case, that are neither objects nor background of another class."""
COLUMNS = 15
MOST = 1e9
"""Numbers in a label are smaller than this."""


@dataclass(frozen=True, eq=False)
class KittiObjects:
    """The lines of one label or detection file, as columns of length N.

    Attributes:
        types: Class names, str.
        truncated: Share outside the image in [0, 1]; -1 where unknown.
        occluded: 0 visible, 1 partly, 2 largely occluded, 3 unknown; -1 where unknown.
        alpha: Observation angle in radians.
        boxes: Corners (x0, y0, x1, y1) in pixels, (N, 4).
        dimensions: Height, width, length in metres, (N, 3).
        location: Bottom centre x, y, z in the camera frame in metres, (N, 3).
        rotation_y: Heading about the camera's y axis in radians.
        score: Confidence, or None where the file has no such column.
    """

    types: NDArray[np.str_]
    truncated: NDArray[np.float64]
    occluded: NDArray[np.int64]
    alpha: NDArray[np.float64]
    boxes: NDArray[np.float64]
    dimensions: NDArray[np.float64]
    location: NDArray[np.float64]
    rotation_y: NDArray[np.float64]
    score: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.types)


def read_labels(path: str | os.PathLike[str]) -> KittiObjects:
    """Read a KITTI label file (15 columns) or detection file (16); an empty file has no objects.

    Raises:
        DataError: If the file is missing, or a line has too few columns or a value that is no
            finite number; the message gives file and line.
    """
    labels = parse_labels(read_label_text(Path(path)))
    for number, problem in labels.problems:
        raise DataError(f"{path}:{number}: {problem}")
    return labels.objects


class ParsedLabels(NamedTuple):
    """The good lines of a label file with their line numbers, and what is wrong with the others."""

    objects: KittiObjects
    numbers: list[int]
    problems: list[tuple[int, str]]


def parse_labels(text: str) -> ParsedLabels:
    """Read the lines of a label file; bad ones are collected, not raised."""
    types, rows = [], []
    numbers, problems = [], []
    columns = 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        problem, values = _numbers(words[1:], columns)
        if problem:
            problems.append((number, problem))
            continue
        columns = len(words)
        types.append(words[0])
        rows.append(values)
        numbers.append(number)
    columns = columns or COLUMNS
    table = np.array(rows, np.float64).reshape(-1, columns - 1)
    return ParsedLabels(_objects(np.array(types, str), table), numbers, problems)


def _numbers(words: list[str], columns: int) -> tuple[str, list[float]]:
    """Return what is wrong with the columns after the class, or nothing and their values."""
    found = len(words) + 1
    if found not in {COLUMNS, COLUMNS + 1}:
        return f"found {found} column{'s' * (found != 1)}, wanted {COLUMNS} (16 with a score)", []
    if columns and found != columns:
        return f"found {found} columns, the lines above have {columns}", []
    values = []
    for word in words:
        try:
            values.append(float(word))
        except ValueError:
            values.append(math.nan)
        if not abs(values[-1]) < MOST:
            return f"found {short(word)}, wanted a finite number", []
    if not values[1].is_integer():
        return f"found the occlusion {words[1]}, wanted a whole number", []
    return "", values


def _objects(types: NDArray[np.str_], values: NDArray[np.float64]) -> KittiObjects:
    return KittiObjects(
        types=types,
        truncated=values[:, 0],
        occluded=values[:, 1].astype(np.int64),
        alpha=values[:, 2],
        boxes=values[:, 3:7],
        dimensions=values[:, 7:10],
        location=values[:, 10:13],
        rotation_y=values[:, 13],
        score=values[:, 14] if values.shape[1] == COLUMNS else None,
    )
