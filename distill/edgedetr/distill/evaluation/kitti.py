"""KITTI's average precision of the 2-D box (AP11 and AP40), as the official evaluator gives it.

Two builds of the official ``evaluate_object.cpp`` are in use, and they differ in one more rule than
the points they average: AP11 is that of the 11-point build, which leaves out labels *lower* than
the difficulty's height, AP40 that of the 40-point build, which leaves out labels *not higher* than
it. Both are held to the figures that those builds print. What else is easy to miss:

* a detection lower than the difficulty's height is neutral *whatever its class*, and can take a
  label (the height is cut to whole pixels first, which limits in whole pixels do not notice);
* an overlap must be strictly greater than the limit;
* a Van is neutral for Car, a Person_sitting for Pedestrian; upper and lower case are the same;
* a detection that lies in a DontCare area (shared area over its own) is no false alarm;
* fewer than 41 hits fill only so many of the curve's points: the others have precision 0.

Where no label counts there is nothing to find, and no figure: NaN, ``-`` on screen, null in JSON.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgedetr.distill.evaluation.kitti_matching import (
    POINTS,
    Contest,
    overlapping_pairs,
    precision_recall,
)
from edgedetr.distill.evaluation.kitti_tables import (
    DetectionTable,
    LabelTable,
    detection_table,
    read_detection_table,
    read_label_table,
)
from edgedetr.distill.labels.kitti_files import KNOWN_CLASSES
from edgedetr.distill.labels.kitti_files import NEUTRAL as NEUTRAL_TYPES
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import files_with, in_any_case, without_nan

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from edgedetr.runtime.types import Detections

CLASSES = ("Car", "Pedestrian", "Cyclist")
DIFFICULTIES = ("easy", "moderate", "hard")
MIN_OVERLAP = (0.7, 0.5, 0.5)
"""Least intersection over union of a hit, by class."""
NEUTRAL = tuple(
    next((neutral for neutral, near in NEUTRAL_TYPES.items() if near == name.lower()), "")
    for name in CLASSES
)
"""The type that is neither wanted nor wrong, by class."""
MIN_HEIGHT_PX = (40, 25, 25)
MAX_OCCLUSION = (0, 1, 2)
MAX_TRUNCATION = (0.15, 0.3, 0.5)


@dataclass(frozen=True, eq=False)
class KittiScores:
    """What the evaluation gives for ``CLASSES`` x ``DIFFICULTIES``.

    Attributes:
        ap11: Mean precision at recall 0, 0.1, ..., 1, per cent, (3, 3); the 11-point build's rules.
            NaN where no label counts.
        ap40: Mean precision at recall 1/40, ..., 1, per cent, (3, 3); the 40-point build's rules.
            NaN where no label counts.
        precision: The curves behind ``ap40``, in [0, 1], (3, 3, 41).
        recall: The recall really reached at those points, in [0, 1], (3, 3, 41).
        frames: How many frames were compared.
        detections: How many detections they hold.
        notes: What was left out, one line each: types that are not scored, frames without results.
    """

    ap11: NDArray[np.float64]
    ap40: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    frames: int
    detections: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return it as it is written to JSON, by class and difficulty."""
        curves = np.stack([self.recall, self.precision], axis=2)
        return {
            "AP11": _by_name(self.ap11.tolist()),
            "AP40": _by_name(self.ap40.tolist()),
            "frames": self.frames,
            "detections": self.detections,
            "notes": list(self.notes),
            "curves": _by_name(
                [[{"recall": r, "precision": p} for r, p in row] for row in curves.tolist()]
            ),
        }


def evaluate_kitti(
    labels: str | os.PathLike[str], detections: str | os.PathLike[str]
) -> KittiScores:
    """Compare a folder of detection files with a folder of label files of the same names.

    The frames are those that have a detection file, as in the official evaluator: a model is
    compared on its validation split though the folder holds every label. A frame in which nothing
    was found must therefore have an empty detection file; how many labels have none is noted.

    Args:
        labels: Folder of KITTI label files (``000000.txt``, 15 columns).
        detections: Folder of KITTI result files (16 columns, the last one the score).

    Raises:
        DataError: If a folder is missing or holds no text file, a detection file has no label file,
            a line is malformed, or no detection has a class that is scored.
    """
    labels, detections = Path(labels), Path(detections)
    if not labels.is_dir():
        raise DataError(f"{labels}: no such folder; wanted KITTI label files (label_2)")
    paths = _text_files(detections)
    label_paths = [in_any_case(labels / path.name) for path in paths]
    for path, label in zip(paths, label_paths, strict=True):
        if not label.is_file():
            raise DataError(f"{path}: no labels for this frame; wanted {label}")
    found = read_detection_table(paths)
    scores = kitti_ap(read_label_table(label_paths), found, len(paths))
    others = _others(found.types, CLASSES)
    if len(found.types) and sum(others.values()) == len(found.types):
        raise DataError(
            f"{detections}: no detection has a class that is scored ({', '.join(CLASSES)}); found "
            f"{_counted(others)}"
        )
    left_out = {p.stem for p in files_with(labels, ".txt")} - {p.stem for p in paths}
    if left_out:
        note = f"label files without a result file, left out: {len(left_out)}"
        scores = replace(scores, notes=(*scores.notes, note))
    return scores


def evaluate_kitti_frames(
    labels: Sequence[str | os.PathLike[str]],
    detections: Sequence[Detections],
    class_names: Sequence[str],
) -> KittiScores:
    """Compare detections in memory with the label file of each frame.

    The labels are read from the files, since a training label holds no neutral types.

    Args:
        labels: KITTI label file of each frame.
        detections: What was found in each frame.
        class_names: The names behind the detections' labels; ``CLASSES`` are scored.

    Raises:
        DataError: If a label file is missing or malformed.
    """
    return kitti_ap(read_label_table(labels), detection_table(detections, class_names), len(labels))


def kitti_ap(labels: LabelTable, detections: DetectionTable, num_frames: int) -> KittiScores:
    """Compute AP11 and AP40 of every class and difficulty; NaN where no label counts."""
    shape = (len(CLASSES), len(DIFFICULTIES), POINTS)
    eleven, forty, recall = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    counts = np.zeros((2, *shape[:2]), bool)
    for c in range(len(CLASSES)):
        part = _class_part(labels, detections, c)
        for d, min_height_px in enumerate(MIN_HEIGHT_PX):
            of_eleven = part.contest(d, part.height >= min_height_px)
            eleven[c, d], _ = precision_recall(of_eleven)
            of_forty = part.contest(d, part.height > min_height_px)
            forty[c, d], recall[c, d] = precision_recall(of_forty)
            counts[:, c, d] = of_eleven.wanted.any(), of_forty.wanted.any()
    return KittiScores(
        ap11=np.where(counts[0], eleven[..., ::4].mean(axis=-1) * 100, np.nan),
        ap40=np.where(counts[1], forty[..., 1:].mean(axis=-1) * 100, np.nan),
        precision=forty,
        recall=recall,
        frames=num_frames,
        detections=len(detections.scores),
        notes=_type_notes(labels, detections),
    )


@dataclass(frozen=True, eq=False)
class _ClassPart:
    """What the difficulties of one class share; see ``Contest`` for the rest."""

    everybody: Contest
    height: NDArray[np.float64]
    truncated: NDArray[np.float64]
    occluded: NDArray[np.int64]
    detection_height_px: NDArray[np.float64]

    def contest(self, difficulty: int, high: NDArray[np.bool_]) -> Contest:
        """Narrow the class to a difficulty; ``high`` are the labels of sufficient height."""
        base = self.everybody
        small = self.detection_height_px < MIN_HEIGHT_PX[difficulty]
        clear = (self.occluded <= MAX_OCCLUSION[difficulty]) & (
            self.truncated <= MAX_TRUNCATION[difficulty]
        )
        return Contest(
            pairs=base.pairs,
            frames=base.frames,
            scores=base.scores,
            counted=base.counted & ~small,
            small=small,
            absorbed=base.absorbed,
            wanted=base.wanted & clear & high,
        )


def _class_part(labels: LabelTable, detections: DetectionTable, c: int) -> _ClassPart:
    """Find what belongs to a class: its labels and neutral ones, its detections and small ones."""
    types = np.char.lower(labels.types)
    own, dont_care = types == CLASSES[c].lower(), types == "dontcare"
    near = own | (types == NEUTRAL[c])
    height_px = np.abs(detections.boxes[:, 1] - detections.boxes[:, 3])
    of_class = np.char.lower(detections.types) == CLASSES[c].lower()
    part = of_class | (height_px < max(MIN_HEIGHT_PX))
    found = detections.frames[part], detections.boxes[part]
    pairs, areas = (
        overlapping_pairs(
            found, (labels.frames[rows], labels.boxes[rows]), MIN_OVERLAP[c], over_union=over_union
        )
        for rows, over_union in ((near, True), (dont_care, False))
    )
    everybody = Contest(
        pairs=pairs,
        frames=labels.frames[near],
        scores=detections.scores[part],
        counted=of_class[part],
        small=np.zeros(part.sum(), bool),
        absorbed=np.isin(np.arange(part.sum()), areas.detection),
        wanted=own[near],
    )
    boxes = labels.boxes[near]
    return _ClassPart(
        everybody=everybody,
        height=boxes[:, 3] - boxes[:, 1],
        truncated=labels.truncated[near],
        occluded=labels.occluded[near],
        detection_height_px=height_px[part],
    )


def _type_notes(labels: LabelTable, detections: DetectionTable) -> tuple[str, ...]:
    """Name the detections that nobody scores, and the labels that the benchmark does not know."""
    rows = (
        ("detections of types that are not scored", _others(detections.types, CLASSES)),
        ("labels of types that are not KITTI's", _others(labels.types, KNOWN_CLASSES)),
    )
    return tuple(f"{what}: {_counted(others)}" for what, others in rows if others)


def _others(types: NDArray[np.str_], known: Iterable[str]) -> Counter[str]:
    lower = {name.lower() for name in known}
    return Counter(name for name in types.tolist() if name.lower() not in lower)


def _counted(types: Counter[str]) -> str:
    return ", ".join(f"{ascii(name)[1:-1]} {count}" for name, count in sorted(types.items()))


def _text_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; wanted KITTI detection files")
    paths = files_with(folder, ".txt")
    if not paths:
        raise DataError(f"{folder}: no *.txt in it; wanted one KITTI detection file for each frame")
    return paths


def _by_name(table: Sequence[Sequence[object]]) -> dict[str, dict[str, object]]:
    return {
        name: without_nan(dict(zip(DIFFICULTIES, row, strict=True)))
        for name, row in zip(CLASSES, table, strict=True)
    }
