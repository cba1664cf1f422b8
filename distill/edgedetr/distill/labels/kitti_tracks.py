"""KITTI's files of tracks: one for each sequence, labels and results alike.

The columns (the tracking benchmark's development kit): frame, number of the track, then those of
`edgedetr.distill.labels.kitti_files`, where truncation is a level of 0, 1 or 2. What
``edgedetr run --tracker --out`` writes, ``frames.jsonl``, is read as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.distill.labels.coco_entries import (
    class_name,
    finite_number,
    reason,
    short,
    whole_number,
)
from edgedetr.distill.labels.kitti_files import COLUMNS, parse_labels
from edgedetr.distill.labels.label_files import read_label_text
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    _Row = tuple[int, int, str, tuple[float, float, float, float]]
    """Frame, track, class and box."""

PLACE_COLUMNS = 2
"""Frame and track, before the columns of a label."""
MOST = 1 << 31
"""Frames and tracks have smaller numbers."""
MOST_BOXES = 2000
"""In one frame: each is compared with each, and their assignment takes the third power of time."""


@dataclass(frozen=True, eq=False)
class TrackTable:
    """The boxes of one sequence, as columns of length N.

    Attributes:
        frames: Number of each one's frame, int64.
        tracks: Number of its track; negative where it has none, int64.
        types: Class names as written, str.
        truncated: KITTI's level: 0 not, 1 partly, 2 largely truncated; -1 unknown, int64.
        occluded: 0 visible, 1 partly, 2 largely occluded, 3 unknown; -1 unknown, int64.
        boxes: Corners (x0, y0, x1, y1) in pixels, float64 (N, 4).
    """

    frames: NDArray[np.int64]
    tracks: NDArray[np.int64]
    types: NDArray[np.str_]
    truncated: NDArray[np.int64]
    occluded: NDArray[np.int64]
    boxes: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frames)


def read_tracks(path: str | os.PathLike[str]) -> TrackTable:
    """Read the labels or results of a sequence; an empty file has none.

    Raises:
        DataError: If the file is missing, a line has a wrong number of columns or a value that is
            no number, a track of a class has two boxes in one frame, or that has too many boxes.
    """
    path = Path(path)
    found = _read_lines(path) if path.suffix == ".jsonl" else _read_columns(path)
    named = found.tracks >= 0
    kept = zip(found.frames[named], found.tracks[named], found.types[named], strict=True)
    seen: set[tuple[int, int, str]] = set()
    for frame, track, kind in kept:
        if (frame, track, kind) in seen:
            raise DataError(f"{path}: track {track} ({kind}) has two boxes in frame {frame}")
        seen.add((frame, track, kind))
    numbers, counts = np.unique(found.frames, return_counts=True)
    if counts.max(initial=0) > MOST_BOXES:
        worst = int(counts.argmax())
        raise DataError(
            f"{path}: frame {numbers[worst]} has {counts[worst]} boxes, wanted at most {MOST_BOXES}"
        )
    return found


def _read_columns(path: Path) -> TrackTable:
    places, rest = [], []
    for number, line in enumerate(read_label_text(path).splitlines(), 1):
        words = line.split()
        rest.append(" ".join(words[PLACE_COLUMNS:]))
        if not words:
            continue
        wanted = COLUMNS + PLACE_COLUMNS
        if len(words) not in {wanted, wanted + 1}:
            found = f"found {len(words)} columns"
            raise DataError(f"{path}:{number}: {found}, wanted {wanted} (18 with a score)")
        try:
            places.append([_number(word) for word in words[:PLACE_COLUMNS]])
        except ValueError as error:
            raise DataError(f"{path}:{number}: {reason(error)}; wanted frame and track") from error
    labels = parse_labels("\n".join(rest))
    for number, problem in labels.problems:
        raise DataError(f"{path}:{number}: {problem}")
    objects = labels.objects
    place = np.array(places, np.int64).reshape(-1, PLACE_COLUMNS)
    return TrackTable(
        frames=place[:, 0],
        tracks=place[:, 1],
        types=objects.types,
        truncated=objects.truncated.astype(np.int64),
        occluded=objects.occluded,
        boxes=objects.boxes,
    )


def _read_lines(path: Path) -> TrackTable:
    """Read ``frames.jsonl``, where the frames have the numbers of their images."""
    lines = read_label_text(path).splitlines()
    rows = [row for number, line in enumerate(lines, 1) for row in _rows(line, f"{path}:{number}")]
    unknown = np.full(len(rows), -1)
    return TrackTable(
        frames=np.array([row[0] for row in rows], np.int64),
        tracks=np.array([row[1] for row in rows], np.int64),
        types=np.array([row[2] for row in rows], str),
        truncated=unknown,
        occluded=unknown,
        boxes=np.array([row[3] for row in rows], np.float64).reshape(-1, 4),
    )


def _rows(line: str, place: str) -> Iterator[_Row]:
    """Yield the boxes of one line that belong to a track."""
    try:
        values = json.loads(line)
        frame = _number(values["frame"])
        for found in values["detections"]:
            x0, y0, x1, y1 = (finite_number(side) for side in found["box"])
            if found.get("track") is not None:
                yield frame, _number(found["track"]), class_name(found["class"]), (x0, y0, x1, y1)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{place}: {reason(error)}; wanted a line of edgedetr run --tracker, and frames named "
            "by their number"
        ) from error


def _number(value: object) -> int:
    """Return the number of a frame or a track."""
    number = finite_number(value)
    if not abs(number) < MOST:
        raise ValueError(f"{short(value)}, wanted a number below {MOST}")
    return whole_number(number)
