"""Waymo's 2-D boxes: the table ``camera_box`` of its columns, version 2, as JSON or parquet.

``training/camera_box/*.parquet`` as Waymo has it, which needs pyarrow, or the same rows as JSON: a
list of objects with the names of the columns. Images are JPEG or PNG files that were taken out of
``camera_image``: ``training/camera_image/<segment>_<timestamp>_<camera>.jpg``. Those without a row
have no objects. A box of unknown type is an area to ignore.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from edgedetr.distill.data import opener
from edgedetr.distill.dataset_survey import surveyor
from edgedetr.distill.labels.coco_entries import finite_number, reason, short, whole_number
from edgedetr.distill.labels.frames import EVERY_CLASS, LabelledFrame, LabelledObject, LabelSet
from edgedetr.distill.labels.keeps import Keeps
from edgedetr.distill.labels.label_files import is_hidden, read_label_json
from edgedetr.distill.labels.writing import place_image, require_own_names, rounded
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import write_text
from edgedetr.runtime.images import list_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from edgedetr.distill.labels.frames import CheckedFrame

CLASSES = ("Vehicle", "Pedestrian", "Sign", "Cyclist")
"""Types 1 to 4; 0 is unknown."""
LAYOUT = "training/camera_box/*.json or *.parquet, and images in training/camera_image"
KEEPS = Keeps(ignored="every", classes=CLASSES)
BEYOND = "difficulty levels, tracks and 3-D boxes"
SPLITS = {"train": ("training", "train"), "val": ("validation", "val")}
_KEYS = ("key.segment_context_name", "key.frame_timestamp_micros", "key.camera_name")
_BOX = tuple(
    f"[CameraBoxComponent].box.{name}" for name in ("center.x", "center.y", "size.x", "size.y")
)
_TYPE = "[CameraBoxComponent].type"
_NAME = re.compile(r"(?P<segment>.+)_(?P<time>\d+)_(?P<camera>\d+)")


def is_here(root: Path) -> bool:
    """Tell whether a folder has tables of boxes."""
    return bool(splits(root))


def splits(root: Path) -> tuple[str, ...]:
    """List the splits that have tables."""
    return tuple(split for split in SPLITS if _folder(root, split) is not None)


def images(root: Path, split: str) -> list[Path]:
    """List a split's images."""
    return [path for folder in _split_folders(root, split) for path in _images(folder)]


def read(root: Path, split: str) -> LabelSet:
    """Read a split's tables.

    Raises:
        DataError: If a table or the images are missing, a table is damaged, or it is parquet and
            pyarrow is not installed.
    """
    found = LabelSet(root, CLASSES, is_closed=True)
    for folder in _split_folders(root, split):
        paths = _images(folder)
        boxes: dict[str, list[LabelledObject]] = {path.stem: [] for path in paths}
        for table in _tables(folder):
            _add(table, folder, boxes, found.problems)
        place = str(folder / "camera_box")
        found.frames += [
            LabelledFrame(path, place, None, boxes[path.stem], path.stem) for path in paths
        ]
    return found


open_dataset = opener(read)
survey = surveyor(read)


def write(
    out: Path,
    splits: Mapping[str, list[CheckedFrame]],
    class_names: tuple[str, ...],  # noqa: ARG001 - they are Waymo's own
) -> None:
    """Write frames into a new folder, the boxes as JSON.

    A frame whose name is none of Waymo's becomes a segment of its own, at time 0 of camera 1.

    Raises:
        DataError: If two frames of a split have the same name.
    """
    for split, frames in splits.items():
        require_own_names(frames)
        folder = out / SPLITS.get(split, (split,))[0]
        rows = []
        for frame in frames:
            name = frame.name if _NAME.fullmatch(frame.name) else f"{frame.name}_0_1"
            place_image(frame.path, folder / "camera_image" / f"{name}{frame.path.suffix.lower()}")
            rows += [_row(name, i, o) for i, o in enumerate(frame.objects)]
        write_text(folder / "camera_box" / "boxes.json", json.dumps(rows) + "\n")


def _row(name: str, index: int, obj: LabelledObject) -> dict[str, object]:
    segment, time, camera = name.rsplit("_", 2)
    x0, y0, x1, y1 = obj.box
    values = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
    return {
        **dict(zip(_KEYS, (segment, int(time), int(camera)), strict=True)),
        "key.camera_object_id": str(index),
        **dict(zip(_BOX, (rounded(value) for value in values), strict=True)),
        _TYPE: 0 if obj.is_ignored else CLASSES.index(obj.name) + 1,
    }


def _folder(root: Path, split: str) -> Path | None:
    places = [root / name for name in SPLITS.get(split, (split,))]
    return next((place for place in places if (place / "camera_box").is_dir()), None)


def _split_folders(root: Path, split: str) -> list[Path]:
    wanted = splits(root) if split == "all" else (split,)
    folders = [folder for name in wanted if (folder := _folder(root, name))]
    if not folders:
        raise DataError(
            f"{root}: no boxes of the split {split!r}; wanted "
            f"{SPLITS.get(split, (split,))[0]}/camera_box with JSON or parquet files"
        )
    return folders


def _images(folder: Path) -> list[Path]:
    return list_images(folder / "camera_image")


def _tables(folder: Path) -> list[Path]:
    files = [p for p in sorted((folder / "camera_box").iterdir()) if not is_hidden(p)]
    found = [path for path in files if path.suffix.lower() in {".json", ".parquet"}]
    if not found:
        raise DataError(f"{folder / 'camera_box'}: no JSON or parquet file of boxes")
    return found


def _add(
    table: Path, folder: Path, boxes: dict[str, list[LabelledObject]], problems: list[str]
) -> None:
    """Add a table's boxes to those of their images."""
    for place, row in _rows(table):
        try:
            name, obj = _object(row)
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"{place}: {reason(error)}")
            continue
        if name in boxes:
            boxes[name].append(obj)
        else:
            problems.append(f"{place}: no image {name} in {folder.name}/camera_image")


def _rows(table: Path) -> Iterator[tuple[str, Any]]:
    """Yield where each row of a table is, and the row."""
    rows = _parquet(table) if table.suffix.lower() == ".parquet" else read_label_json(table)
    if not isinstance(rows, list):
        raise DataError(f"{table}: not a table of Waymo's boxes; wanted a list of rows")
    for index, row in enumerate(rows):
        yield f"{table}: rows[{index}]", row


def _parquet(path: Path) -> object:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(
            f"{path}: parquet needs pyarrow, which is not installed (pip install edgedetr[waymo]); "
            "or write the rows as JSON"
        ) from error
    try:
        return parquet.read_table(path, columns=[*_KEYS, *_BOX, _TYPE]).to_pylist()
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a table of Waymo's boxes: {error}") from error


def _object(row: dict[str, Any]) -> tuple[str, LabelledObject]:
    segment, time, camera = (row[key] for key in _KEYS)
    x, y, width, height = (finite_number(row[key]) for key in _BOX)
    kind = whole_number(row[_TYPE])
    if not 0 <= kind <= len(CLASSES):
        raise ValueError(f"type {short(kind)}, wanted 0 to {len(CLASSES)}")
    name = CLASSES[kind - 1] if kind else EVERY_CLASS
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    image = f"{segment}_{whole_number(time)}_{whole_number(camera)}"
    return image, LabelledObject(name, box, is_ignored=not kind)
