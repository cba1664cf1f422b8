"""Results that `edgedetr detect --save` wrote, compared with a data set of any format."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.distill.data import data_module, truth_of
from edgedetr.distill.evaluation.coco import CocoScores, coco_ap
from edgedetr.distill.labels.coco_entries import finite_number, reason, whole_number
from edgedetr.distill.labels.frames import EVERY_CLASS, checked
from edgedetr.distill.labels.kitti_files import read_labels
from edgedetr.distill.labels.label_files import read_label_json, read_label_text
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.saved_results import CLASSES, DETECTIONS, IMAGES, LABELS
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from edgedetr.distill.labels.frames import CheckedFrame

Found = tuple[str, tuple[float, float, float, float], float]
"""A detection: its class, its corners in pixels and its score."""


def evaluate_saved(
    root: str | os.PathLike[str],
    results: str | os.PathLike[str],
    split: str = "val",
    kind: str | None = None,
) -> CocoScores:
    """Compute COCO's AP of results in any format that `edgedetr detect` writes.

    Every class of the labels is scored; frames without a result have no detection.

    Args:
        root: The data set's folder.
        results: The folder of the results.
        split: The split whose labels count.
        kind: The format of the data set; None recognises it.

    Raises:
        DataError: If labels or results are missing or wrong, or no result is of one of the frames
            or classes.
    """
    root, results = Path(root), Path(results)
    labels = data_module(kind, root).read(root, split)
    for problem in labels.problems:
        raise DataError(problem)
    frames = []
    for frame in checked(labels):
        if isinstance(frame, list):
            raise DataError(frame[0])
        frames.append(frame)
    names = tuple(name for name in labels.names() if name != EVERY_CLASS)
    found = _read(results, frames)
    if not found.keys() & {frame.name for frame in frames}:
        raise DataError(f"{results}: no result is of a frame of {split} in {root}")
    index = {name: i for i, name in enumerate(names)}
    index |= {"_".join(name.split()): i for name, i in index.items()}
    others = Counter(n for rows in found.values() for n, *_ in rows if n not in index)
    if others and others.total() == sum(map(len, found.values())):
        raise DataError(
            f"{results}: no detection has a class of {root}; found {', '.join(sorted(others))}, "
            f"wanted {', '.join(names)}"
        )
    truths = [truth_of(frame, names, "background") for frame in frames]
    detections = [_detections(found.get(frame.name, []), index) for frame in frames]
    return coco_ap(truths, detections, names)


def _detections(rows: Sequence[Found], index: dict[str, int]) -> Detections:
    kept = sorted((row for row in rows if row[0] in index), key=lambda row: -row[2])
    return Detections(
        np.array([box for _, box, _ in kept], np.float32).reshape(-1, 4),
        np.array([score for *_, score in kept], np.float32),
        np.array([index[name] for name, *_ in kept], np.int64),
    )


def _read(results: Path, frames: Sequence[CheckedFrame]) -> dict[str, list[Found]]:
    """Return the detections by the name of the frame."""
    if (results / DETECTIONS).is_file():
        return _read_coco(results)
    if (results / LABELS).is_dir():
        return _read_yolo(results, frames)
    paths = {frame.name: results / f"{frame.name}.txt" for frame in frames}
    if not results.is_dir():
        raise DataError(f"{results}: no such folder; wanted results of edgedetr detect")
    return {name: _read_kitti(path) for name, path in paths.items() if path.is_file()}


def _read_kitti(path: Path) -> list[Found]:
    rows = read_labels(path)
    if len(rows) and rows.score is None:
        raise DataError(f"{path}: labels, not results; wanted 16 columns, the last one the score")
    scores = [] if rows.score is None else rows.score.tolist()
    boxes = [(x0, y0, x1, y1) for x0, y0, x1, y1 in rows.boxes.tolist()]
    return list(zip(rows.types.tolist(), boxes, scores, strict=len(rows) > 0))


def _read_coco(results: Path) -> dict[str, list[Found]]:
    rows, named = (read_label_json(results / name) for name in (DETECTIONS, IMAGES))
    if not isinstance(rows, list) or not isinstance(named, dict):
        raise DataError(f"{results}: not COCO results of edgedetr detect")
    try:
        images = {whole_number(i["id"]): Path(i["file_name"]).stem for i in named["images"]}
        names = {whole_number(c["id"]): str(c["name"]) for c in named["categories"]}
        found: dict[str, list[Found]] = {name: [] for name in images.values()}
        for row in rows:
            x, y, width, height = map(finite_number, row["bbox"])
            entry = (
                names[whole_number(row["category_id"])],
                (x, y, x + width, y + height),
                finite_number(row["score"]),
            )
            found[images[whole_number(row["image_id"])]].append(entry)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{results}: not COCO results of edgedetr detect: {reason(error)}"
        ) from error
    return found


def _read_yolo(results: Path, frames: Sequence[CheckedFrame]) -> dict[str, list[Found]]:
    names = read_label_text(results / CLASSES).splitlines()
    found: dict[str, list[Found]] = {}
    for frame in frames:
        path = results / LABELS / f"{frame.name}.txt"
        if not path.is_file():
            continue
        height, width = frame.hw
        rows = found.setdefault(frame.name, [])
        for number, line in enumerate(read_label_text(path).splitlines(), 1):
            try:
                label, x, y, w, h, score = map(finite_number, line.split())
                name = names[whole_number(label)]
            except (IndexError, ValueError) as error:
                raise DataError(f"{path}:{number}: wanted class cx cy w h score") from error
            box = ((x - w / 2) * width, (y - h / 2) * height)
            rows.append((name, (*box, box[0] + w * width, box[1] + h * height), score))
    return found
