"""The labels and the detections of many frames, as tables: from KITTI's files or from memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edgedetr.distill.labels.kitti_files import read_labels
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from edgedetr.runtime.types import Detections


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The labels of many frames, as columns of length N.

    Attributes:
        frames: Index of each label's frame, ascending, int64.
        types: KITTI's types, DontCare among them, str.
        boxes: Corners (x0, y0, x1, y1) in pixels, float64 (N, 4).
        truncated: Share outside the image in [0, 1], float64.
        occluded: 0 visible, 1 partly, 2 largely occluded, 3 unknown, int64.
    """

    frames: NDArray[np.int64]
    types: NDArray[np.str_]
    boxes: NDArray[np.float64]
    truncated: NDArray[np.float64]
    occluded: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DetectionTable:
    """The detections of many frames, as columns of length N.

    Attributes:
        frames: Index of each detection's frame, int64.
        types: Class names, str.
        boxes: Corners (x0, y0, x1, y1) in pixels, float64 (N, 4).
        scores: The higher the surer, float64.
    """

    frames: NDArray[np.int64]
    types: NDArray[np.str_]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]


def read_label_table(paths: Sequence[str | os.PathLike[str]]) -> LabelTable:
    """Read label files; a frame's index is its place in ``paths``. Raises DataError."""
    files = [read_labels(path) for path in tqdm(paths, "labels", disable=None, leave=False)]
    return LabelTable(
        frames=np.repeat(np.arange(len(files)), [len(f) for f in files]),
        types=np.concatenate([np.zeros(0, "U1"), *(f.types for f in files)]),
        boxes=np.concatenate([np.zeros((0, 4)), *(f.boxes for f in files)]),
        truncated=np.concatenate([np.zeros(0), *(f.truncated for f in files)]),
        occluded=np.concatenate([np.zeros(0, np.int64), *(f.occluded for f in files)]),
    )


def detection_table(detections: Sequence[Detections], class_names: Sequence[str]) -> DetectionTable:
    """Join the detections of frames; a frame's index is its place in ``detections``."""
    names = np.array([*class_names], dtype=str)
    labels = np.concatenate([np.zeros(0, np.int64), *(d.labels for d in detections)])
    return DetectionTable(
        frames=np.repeat(np.arange(len(detections)), [len(d) for d in detections]),
        types=names[labels],
        boxes=np.concatenate([np.zeros((0, 4)), *(d.boxes.astype(np.float64) for d in detections)]),
        scores=np.concatenate([np.zeros(0), *(d.scores.astype(np.float64) for d in detections)]),
    )


def read_detection_table(paths: Sequence[Path]) -> DetectionTable:
    """Read result files; a frame's index is its place in ``paths``. Raises DataError."""
    files = [read_labels(path) for path in tqdm(paths, "detections", disable=None, leave=False)]
    scores = [np.zeros(0)]
    for path, found in zip(paths, files, strict=True):
        if found.score is not None:
            scores.append(found.score)
        elif len(found):
            raise DataError(
                f"{path}:1: found 15 columns, wanted 16: a detection ends with its score"
            )
    return DetectionTable(
        frames=np.repeat(np.arange(len(files)), [len(f) for f in files]),
        types=np.concatenate([np.zeros(0, "U1"), *(f.types for f in files)]),
        boxes=np.concatenate([np.zeros((0, 4)), *(f.boxes for f in files)]),
        scores=np.concatenate(scores),
    )
