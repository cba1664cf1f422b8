"""nuImages: relational tables in JSON, ``v1.0-<split>/{sample_data,object_ann,category}.json``.

The images are those of the table ``sample_data`` that are key frames, below the folder itself.
Boxes are corners in pixels; there are no areas to ignore. Classes have nuImages' full names, such
as ``vehicle.car``.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from edgedetr.distill.data import opener
from edgedetr.distill.dataset_survey import surveyor
from edgedetr.distill.labels.coco_entries import (
    class_name,
    finite_number,
    reason,
    short,
    whole_number,
)
from edgedetr.distill.labels.frames import LabelledFrame, LabelledObject, LabelSet, frame_stems
from edgedetr.distill.labels.keeps import Keeps
from edgedetr.distill.labels.label_files import read_label_json
from edgedetr.distill.labels.writing import image_name, place_image, require_own_names, rounded
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import in_any_case, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edgedetr.distill.labels.frames import CheckedFrame

LAYOUT = "v1.0-train/object_ann.json with images in samples/"
KEEPS = Keeps(one_folder=True)
BEYOND = "masks, surfaces, attributes and calibration"
SPLITS = ("train", "val")
TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "log", "object_ann", "sample",
    "sample_data", "sensor", "surface_ann",
)  # fmt: skip
"""The tables that nuImages' own tool opens."""


def is_here(root: Path) -> bool:
    """Tell whether a folder has the tables of some version."""
    return next(root.glob("v1.0-*/object_ann.json"), None) is not None


def splits(root: Path) -> tuple[str, ...]:
    """List the splits that have tables."""
    return tuple(s for s in SPLITS if (root / f"v1.0-{s}" / "object_ann.json").is_file())


def images(root: Path, split: str) -> list[Path]:
    """List a split's key frames, in the order of its table."""
    return [frame.path for frame in read(root, split).frames]


def read(root: Path, split: str) -> LabelSet:
    """Read a split's tables.

    Args:
        root: The folder that holds ``v1.0-<split>`` and the images.
        split: ``train``, ``val``, ``mini`` and so on, or ``all`` for train and val.

    Raises:
        DataError: If a table is missing, or a row of it lacks a key.
    """
    wanted = splits(root) if split == "all" else (split,)
    if not wanted:
        raise DataError(f"{root}: no tables of the splits train and val; wanted {LAYOUT}")
    found = LabelSet(root, is_closed=True)
    rows: list[tuple[Path, str, tuple[int, int], list[LabelledObject]]] = []
    for name in wanted:
        rows += _split_rows(root, root / f"v1.0-{name}", found)
    stems = frame_stems(path for path, *_ in rows)
    found.frames += [
        LabelledFrame(path, place, hw, objects, stem)
        for (path, place, hw, objects), stem in zip(rows, stems, strict=True)
    ]
    return found


open_dataset = opener(read)
survey = surveyor(read)


def write(
    out: Path, splits: Mapping[str, list[CheckedFrame]], class_names: tuple[str, ...]
) -> None:
    """Write frames into a new folder; the tables of sensors and drives stay empty.

    Raises:
        DataError: If two frames have the same name.
    """
    require_own_names(frame for frames in splits.values() for frame in frames)
    for split, frames in splits.items():
        tables: dict[str, list[dict[str, object]]] = {name: [] for name in TABLES}
        tokens = {name: _token("category", name) for name in class_names}
        tables["category"] = [
            {"token": token, "name": name, "description": ""} for name, token in tokens.items()
        ]
        for time, frame in enumerate(frames):
            _add_rows(tables, frame, time, tokens)
            place_image(frame.path, out / _filename(frame))
        for name, rows in tables.items():
            write_text(out / f"v1.0-{split}" / f"{name}.json", json.dumps(rows) + "\n")


def _add_rows(
    tables: dict[str, list[dict[str, object]]],
    frame: CheckedFrame,
    time: int,
    categories: Mapping[str, str],
) -> None:
    sample, data = _token("sample", frame.name), _token("sample_data", frame.name)
    height, width = frame.hw
    tables["sample"].append(
        {"token": sample, "timestamp": time, "log_token": "", "key_camera_token": data}
    )
    tables["sample_data"].append(
        {
            "token": data,
            "sample_token": sample,
            "ego_pose_token": "",
            "calibrated_sensor_token": "",
            "filename": _filename(frame),
            "fileformat": frame.path.suffix.lower()[1:],
            "width": width,
            "height": height,
            "timestamp": time,
            "is_key_frame": True,
            "prev": "",
            "next": "",
        }
    )
    tables["object_ann"] += [
        {
            "token": _token("object_ann", f"{frame.name}/{index}"),
            "sample_data_token": data,
            "category_token": categories[o.name],
            "attribute_tokens": [],
            "bbox": [rounded(value) for value in o.box],
            "mask": None,
        }
        for index, o in enumerate(frame.objects)
    ]


def _filename(frame: CheckedFrame) -> str:
    return f"samples/CAM_FRONT/{image_name(frame)}"


def _token(table: str, name: str) -> str:
    return hashlib.sha256(f"{table}/{name}".encode()).hexdigest()[:32]


def _split_rows(
    root: Path, folder: Path, found: LabelSet
) -> list[tuple[Path, str, tuple[int, int], list[LabelledObject]]]:
    """Join the tables of a split: a row for each key frame."""
    categories = _keyed(folder / "category.json", lambda row: class_name(row["name"]))
    found.class_names = tuple(dict.fromkeys([*found.class_names, *categories.values()]))
    frames = _keyed(folder / "sample_data.json", _image)
    place = folder / "object_ann.json"
    objects: dict[str, list[LabelledObject]] = {token: [] for token, f in frames.items() if f}
    for index, row in enumerate(_table(place)):
        try:
            token, obj = _object(row, categories)
        except (KeyError, TypeError, ValueError) as error:
            found.problems.append(f"{place}: object_ann[{index}]: {reason(error)}")
            continue
        if token in objects:
            objects[token].append(obj)
        elif token not in frames:
            found.problems.append(
                f"{place}: object_ann[{index}]: no sample_data has the token {short(token)}"
            )
    images = ((token, image) for token, image in frames.items() if image)
    return [
        (in_any_case(root / name), str(place), hw, objects[token]) for token, (name, hw) in images
    ]


def _table(path: Path) -> Sequence[Any]:
    rows = read_label_json(path)
    if not isinstance(rows, list):
        raise DataError(f"{path}: not a table of nuImages; wanted a list of rows with a token")
    return rows


def _keyed(path: Path, parse: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the parsed rows of a table by token."""
    rows, index = _table(path), 0
    found = {}
    try:
        for index, row in enumerate(rows):  # noqa: B007 - for the message
            found[str(row["token"])] = parse(row)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: row {index}: {reason(error)}") from error
    return found


def _image(row: dict[str, Any]) -> tuple[str, tuple[int, int]] | None:
    """Return name and size of a key frame; None of a frame between them, which has no labels."""
    if not row["is_key_frame"]:
        return None
    name = row["filename"]
    if not isinstance(name, str) or not name.isprintable():
        raise ValueError(f"filename {short(name)}, wanted printable text")
    return name, (whole_number(row["height"]), whole_number(row["width"]))


def _object(row: dict[str, Any], categories: Mapping[str, str]) -> tuple[str, LabelledObject]:
    category = row["category_token"]
    if category not in categories:
        raise ValueError(f"no category has the token {short(category)}")
    box = row["bbox"]
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"bbox {short(box)}, wanted x0 y0 x1 y1")
    x0, y0, x1, y1 = map(finite_number, box)
    return str(row["sample_data_token"]), LabelledObject(categories[category], (x0, y0, x1, y1))
