"""Cityscapes' fine annotations: ``gtFine/<split>/<city>/<name>_gtFine_polygons.json``.

The box of an object is the outer box of its polygon. Objects are those of the classes that
Cityscapes tells apart one by one; a group of them (``cargroup``) is an area to ignore of its class,
and everything else (road, sky) is no object. Images lie in ``leftImg8bit/<split>/<city>``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedetr.distill.data import opener
from edgedetr.distill.dataset_survey import surveyor
from edgedetr.distill.labels.cityscapes_files import Kind
from edgedetr.distill.labels.coco_entries import class_name, finite_number, short
from edgedetr.distill.labels.frames import LabelledObject
from edgedetr.distill.labels.keeps import Keeps
from edgedetr.distill.labels.writing import rounded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgedetr.distill.labels.frames import CheckedFrame, LabelSet

CLASSES = (
    "person", "rider", "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle",
    "bicycle",
)  # fmt: skip
"""The classes of which Cityscapes tells one object from the next."""
LAYOUT = "gtFine/train/CITY/NAME_gtFine_polygons.json and leftImg8bit/train"
KEEPS = Keeps(ignored="class", classes=CLASSES)
BEYOND = "polygons beside their outer boxes, and areas such as road and sky"
_GROUP = "group"
_KIND = Kind("gtFine", "_gtFine_polygons")


def is_here(root: Path) -> bool:
    """Tell whether a folder has fine annotations."""
    return _KIND.is_here(root)


def splits(root: Path) -> tuple[str, ...]:
    """List the splits that have annotations."""
    return _KIND.splits(root)


def images(root: Path, split: str) -> list[Path]:
    """List a split's images, by city and name."""
    return [_KIND.image_path(root, path) for path in _KIND.label_files(root, split)]


def read(root: Path, split: str) -> LabelSet:
    """Read a split's annotations; raises DataError where there is none."""
    found = _KIND.read(root, split, _object)
    found.class_names, found.is_closed = CLASSES, True
    return found


open_dataset = opener(read)
survey = surveyor(read)


def write(
    out: Path,
    splits: Mapping[str, list[CheckedFrame]],
    class_names: tuple[str, ...],  # noqa: ARG001 - they are Cityscapes' own
) -> None:
    """Write frames into a new folder, as one city; an object's polygon is its box.

    Raises:
        DataError: If two frames of a split have the same name.
    """
    _KIND.write(out, splits, lambda objects: [_entry(o) for o in objects])


def _entry(obj: LabelledObject) -> dict[str, object]:
    x0, y0, x1, y1 = (rounded(value) for value in obj.box)
    label = obj.name + (_GROUP if obj.is_ignored else "")
    return {"label": label, "polygon": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}


def _object(entry: dict[str, Any]) -> LabelledObject | None:
    label = class_name(entry["label"])
    name = label.removesuffix(_GROUP)
    if entry.get("deleted") or name not in CLASSES:
        return None
    points = entry["polygon"]
    if not isinstance(points, list) or not points or any(len(point) != 2 for point in points):
        raise ValueError(f"polygon {short(points)}, wanted a list of points x, y")
    xs, ys = ([finite_number(point[axis]) for point in points] for axis in (0, 1))
    return LabelledObject(name, (min(xs), min(ys), max(xs), max(ys)), name != label)
