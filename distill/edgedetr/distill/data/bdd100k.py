"""BDD100K in Scalabel's format: one JSON file of frames with labels for each split.

The files are ``labels/det_20/det_<split>.json`` or the older
``labels/bdd100k_labels_images_<split>.json``, and the images lie in ``images/100k/<split>``.
Corners are pixels that belong to the box, as in Scalabel's ``box2d_to_xyxy``: a box of one pixel
has x1 = x2. Labels with the attribute ``crowd`` or ``ignored`` are areas to ignore.
"""

from __future__ import annotations

import json
from pathlib import Path
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
from edgedetr.distill.labels.frames import (
    OCCLUDED,
    TRUNCATED,
    LabelledFrame,
    LabelledObject,
    LabelSet,
)
from edgedetr.distill.labels.keeps import Keeps
from edgedetr.distill.labels.label_files import is_hidden, read_label_json
from edgedetr.distill.labels.writing import image_name, place_image, require_own_names, rounded
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import in_any_case, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgedetr.distill.labels.frames import CheckedFrame

LAYOUT = "labels/det_20/det_train.json and images/100k/train"
KEEPS = Keeps(ignored="class", truncation="yes", occlusion="yes")
BEYOND = "polygons, 3-D boxes, and attributes other than occluded, truncated, crowd and ignored"
SPLITS = ("train", "val")
CLASSES = (
    "pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    "traffic light", "traffic sign",
)  # fmt: skip
"""The classes of the detection task of 2020; files of 2018 have person, bike and motor."""


def is_here(root: Path) -> bool:
    """Tell whether a folder has a label file of some split."""
    return bool(splits(root))


def splits(root: Path) -> tuple[str, ...]:
    """List the splits that have a label file."""
    return tuple(split for split in SPLITS if _file(root, split) is not None)


def images(root: Path, split: str) -> list[Path]:
    """List a split's images, in the order of its label file."""
    return [frame.path for frame in read(root, split).frames]


def read(root: Path, split: str) -> LabelSet:
    """Read a split's labels.

    Raises:
        DataError: If there is no label file, or it is no list of frames.
    """
    wanted = splits(root) if split == "all" else (split,)
    files = {name: _file(root, name) for name in wanted}
    found = LabelSet(root)
    occurring: dict[str, None] = {}
    for name, path in files.items():
        if path is None:
            break
        rows, configured = _frames(path)
        occurring.update(dict.fromkeys(configured))
        folder = _image_folder(root, name)
        frames = (_frame(row, f"{path}: frames[{i}]", folder, found) for i, row in enumerate(rows))
        found.frames += [frame for frame in frames if frame is not None]
    if not files or None in files.values():
        raise DataError(
            f"{root}: no labels of the split {split!r}; wanted labels/det_20/det_{split}.json or "
            f"labels/bdd100k_labels_images_{split}.json"
        )
    known = occurring or dict.fromkeys(CLASSES)
    found.class_names = tuple(known)
    return found


open_dataset = opener(read)
survey = surveyor(read)


def write(
    out: Path, splits: Mapping[str, list[CheckedFrame]], class_names: tuple[str, ...]
) -> None:
    """Write frames into a new folder.

    Raises:
        DataError: If two frames of a split have the same name.
    """
    config = {"categories": [{"name": name} for name in class_names]}
    for split, frames in splits.items():
        require_own_names(frames)
        rows = []
        for frame in frames:
            name = image_name(frame)
            place_image(frame.path, out / "images" / "100k" / split / name)
            height, width = frame.hw
            labels = [_label(i, o) for i, o in enumerate(frame.objects)]
            size = {"width": width, "height": height}
            rows.append({"name": name, "size": size, "labels": labels})
        text = json.dumps({"frames": rows, "config": config})
        write_text(out / "labels" / "det_20" / f"det_{split}.json", f"{text}\n")


def _label(index: int, obj: LabelledObject) -> dict[str, object]:
    x0, y0, x1, y1 = obj.box
    corners = {"x1": x0, "y1": y0, "x2": x1 - 1, "y2": y1 - 1}
    attributes = {
        "occluded": obj.occlusion > 0,
        "truncated": obj.truncation > 0,
        "crowd": obj.is_ignored,
    }
    return {
        "id": str(index),
        "category": obj.name,
        "attributes": attributes,
        "box2d": {key: rounded(value) for key, value in corners.items()},
    }


def _file(root: Path, split: str) -> Path | None:
    """Return a split's label file; None where there is none."""
    labels = root / "labels"
    names = (f"det_20/det_{split}.json", f"det_{split}.json", f"bdd100k_labels_images_{split}.json")
    for name in names:
        path = labels / name
        if path.is_file() and not is_hidden(path):
            return path
    return None


def _image_folder(root: Path, split: str) -> Path:
    places = [root / "images" / top / split for top in ("100k", ".")]
    return next((place for place in places if place.is_dir()), places[0])


def _frames(path: Path) -> tuple[list[Any], list[str]]:
    """Return the rows of a label file, and the categories that its configuration lists."""
    content = read_label_json(path)
    categories: list[str] = []
    if isinstance(content, dict):
        config = content.get("config")
        listed = config.get("categories") if isinstance(config, dict) else None
        if isinstance(listed, list):
            categories = [str(c["name"]) for c in listed if isinstance(c, dict) and "name" in c]
        content = content.get("frames")
    if not isinstance(content, list) or not content:
        raise DataError(
            f"{path}: not a Scalabel file; wanted a list of frames with name and labels"
        )
    return content, categories


def _frame(
    row: Any,  # noqa: ANN401
    place: str,
    folder: Path,
    found: LabelSet,
) -> LabelledFrame | None:
    try:
        name = row["name"]
        if not isinstance(name, str) or not name.isprintable():
            raise ValueError(f"name {short(name)}, wanted that of an image")  # noqa: TRY301
        labels = row.get("labels") or []
        if not isinstance(labels, list):
            raise ValueError(f"labels {short(labels)}, wanted a list")  # noqa: TRY004, TRY301
        hw = _size(row.get("size"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found.problems.append(f"{place}: {reason(error)}; wanted name and labels")
        return None
    objects = []
    for index, label in enumerate(labels):
        try:
            obj = _object(label)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            found.problems.append(
                f"{place}: labels[{index}]: {reason(error)}; wanted category and box2d x1 y1 x2 y2"
            )
            continue
        if obj:
            objects.append(obj)
    return LabelledFrame(in_any_case(folder / name), place, hw, objects, Path(name).stem)


def _size(size: Any) -> tuple[int, int] | None:  # noqa: ANN401
    if size is None:
        return None
    return whole_number(size["height"]), whole_number(size["width"])


def _object(label: Any) -> LabelledObject | None:  # noqa: ANN401
    """Return a label's box; None where it has none, as lanes and drivable areas."""
    box = label.get("box2d")
    if box is None:
        return None
    x0, y0, x1, y1 = (finite_number(box[key]) for key in ("x1", "y1", "x2", "y2"))
    attributes = label.get("attributes") or {}
    return LabelledObject(
        class_name(label["category"]),
        (x0, y0, x1 + 1, y1 + 1),
        bool(attributes.get("crowd") or attributes.get("ignored")),
        TRUNCATED if attributes.get("truncated") else 0.0,
        OCCLUDED if attributes.get("occluded") else 0,
    )
