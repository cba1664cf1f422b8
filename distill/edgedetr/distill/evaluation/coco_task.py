"""What pycocotools compares: the entries of an annotation file and of a result file, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from edgedetr.distill.labels.coco_entries import (
    crowd_flag,
    is_crowd_flag,
    is_name,
    repeated,
    short,
)
from edgedetr.distill.labels.label_files import read_label_json
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

Row: TypeAlias = dict[str, Any]
"""An entry of a COCO file, as JSON gives it."""
MOST = 1e9
"""Coordinates, areas and scores of a file are smaller than this."""


@dataclass(frozen=True, eq=False)
class CocoTask:
    """Images, classes and annotations under COCO's identifiers; boxes are (x, y, width, height)."""

    image_ids: Sequence[int]
    categories: dict[int, str]
    truths: list[Row]
    detections: list[Row]


def read_task(truth: Path, detections: Path) -> CocoTask:
    """Read and check a COCO annotation file and a COCO result file.

    Raises:
        DataError: As `edgedetr.distill.evaluation.coco.evaluate_coco` says.
    """
    labels = read_label_json(truth)
    if not isinstance(labels, dict):
        raise DataError(
            f"{truth}: found a {type(labels).__name__}, wanted a COCO annotation object"
        )
    image_ids = [row["id"] for row in _checked_rows(truth, labels.get("images"), "images", ("id",))]
    if not image_ids:
        raise DataError(f"{truth}: found no image, wanted COCO's list of images")
    rows = _checked_rows(truth, labels.get("categories"), "categories", ("id", "name"))
    for where, ids in (("images", image_ids), ("categories", [row["id"] for row in rows])):
        for twice in repeated(ids):
            raise DataError(f"{truth}: two {where} have the id {twice}; each needs its own")
    keys = ("image_id", "category_id", "bbox", "score")
    wanted = _checked_rows(truth, labels.get("annotations"), "annotations", keys[:3])
    found = _checked_rows(detections, read_label_json(detections), "detections", keys)
    categories = {row["id"]: row["name"] for row in rows}
    for path, entries, where in ((truth, wanted, "annotations"), (detections, found, "detections")):
        _check_references(path, entries, where, (set(image_ids), set(categories)))
    used = {row["category_id"] for row in (*wanted, *found)}
    shared = repeated(categories.values())
    categories = {i: name for i, name in categories.items() if i in used or name not in shared}
    if repeated(categories.values()):
        raise DataError(f"{truth}: two categories have the same name; every class needs its own")
    wanted = [{**row, "iscrowd": int(crowd_flag(row.get("iscrowd", 0)))} for row in wanted]
    found = [{key: row[key] for key in keys} for row in found]
    return CocoTask(image_ids, categories, wanted, found)


def _checked_rows(path: Path, rows: object, where: str, keys: tuple[str, ...]) -> list[Row]:
    """Return the entries of a list; each must have the keys, and good values in them."""
    if not isinstance(rows, list):
        raise DataError(f"{path}: found no list of {where}, wanted COCO's format")
    for i, row in enumerate(rows):
        problem = _row_problem(row, keys)
        if problem:
            raise DataError(f"{path}: {where}[{i}] {problem}")
    return rows


def _row_problem(row: object, keys: tuple[str, ...]) -> str:
    if not isinstance(row, dict):
        return f"is {short(row)}, wanted an object"
    for key in keys:
        if key not in row:
            return f"has no {key!r}"
    for key in (*keys, *sorted(_OPTIONAL & row.keys())):
        holds, wanted = _CHECKS[key]
        if not holds(row[key]):
            return f"has the {key} {short(row[key])}, wanted {wanted}"
    return ""


def _check_references(
    path: Path,
    rows: list[Row],
    where: str,
    known: tuple[set[object], set[object]],
) -> None:
    for i, row in enumerate(rows):
        for key, ids in zip(("image_id", "category_id"), known, strict=True):
            if row[key] not in ids:
                raise DataError(f"{path}: {where}[{i}] has the unknown {key} {row[key]!r}")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_box(box: object) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(_is_finite(value) for value in box)
        and min(box[2:]) >= 0
    )


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < MOST


_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "id": (_is_id, "a whole number"),
    "image_id": (_is_id, "a whole number"),
    "category_id": (_is_id, "a whole number"),
    "name": (is_name, "printable text"),
    "bbox": (_is_box, "x, y, width >= 0, height >= 0"),
    "score": (_is_finite, "a finite number"),
    "area": (_is_finite, "a finite number"),
    "iscrowd": (is_crowd_flag, "0 or 1"),
}
_OPTIONAL = {"score", "area", "iscrowd"}
