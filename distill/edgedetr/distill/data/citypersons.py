"""CityPersons: boxes of people for Cityscapes' images, ``gtBboxCityPersons/<split>/<city>/*.json``.

Boxes are those of the whole person, also where a part is hidden; the share of it that is hidden, by
``bboxVis``, gives the occlusion: partly from 10 %, largely from 35 %, CityPersons' own limit of
heavy occlusion. ``ignore`` and ``person group`` are areas to ignore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedetr.distill.data import opener
from edgedetr.distill.dataset_survey import surveyor
from edgedetr.distill.labels.cityscapes_files import Kind
from edgedetr.distill.labels.coco_entries import class_name, finite_number, short
from edgedetr.distill.labels.frames import EVERY_CLASS, LabelledObject
from edgedetr.distill.labels.keeps import Keeps
from edgedetr.distill.labels.writing import rounded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgedetr.distill.labels.frames import CheckedFrame, LabelSet

CLASSES = ("pedestrian", "rider", "sitting person", "person (other)")
IGNORED = ("ignore", "person group")
LAYOUT = "gtBboxCityPersons/train/CITY/NAME_gtBboxCityPersons.json and leftImg8bit/train"
KEEPS = Keeps(ignored="every", occlusion="grade", classes=CLASSES)
BEYOND = "the boxes of what is visible, beside how much it is"
PARTLY, LARGELY = 0.1, 0.35
"""The hidden shares from which a person is partly and largely occluded."""
_KIND = Kind("gtBboxCityPersons", "_gtBboxCityPersons")


def is_here(root: Path) -> bool:
    """Tell whether a folder has CityPersons' boxes."""
    return _KIND.is_here(root)


def splits(root: Path) -> tuple[str, ...]:
    """List the splits that have boxes."""
    return _KIND.splits(root)


def images(root: Path, split: str) -> list[Path]:
    """List a split's images, by city and name."""
    return [_KIND.image_path(root, path) for path in _KIND.label_files(root, split)]


def read(root: Path, split: str) -> LabelSet:
    """Read a split's boxes; raises DataError where there is none."""
    found = _KIND.read(root, split, _object)
    found.class_names, found.is_closed = CLASSES, True
    return found


open_dataset = opener(read)
survey = surveyor(read)


def write(
    out: Path,
    splits: Mapping[str, list[CheckedFrame]],
    class_names: tuple[str, ...],  # noqa: ARG001 - they are CityPersons' own
) -> None:
    """Write frames into a new folder, as one city.

    Raises:
        DataError: If two frames of a split have the same name.
    """
    _KIND.write(out, splits, lambda objects: [_entry(i, o) for i, o in enumerate(objects)])


def _entry(index: int, obj: LabelledObject) -> dict[str, object]:
    """Write a box; the visible part is as high as its grade of occlusion says."""
    x0, y0, x1, y1 = obj.box
    seen = {0: 1.0, 1: 1 - (PARTLY + LARGELY) / 2, 2: 1 - 2 * LARGELY}.get(obj.occlusion, 1.0)
    return {
        "instanceId": index,
        "label": "ignore" if obj.is_ignored else obj.name,
        "bbox": [rounded(v) for v in (x0, y0, x1 - x0, y1 - y0)],
        "bboxVis": [rounded(v) for v in (x0, y0, x1 - x0, (y1 - y0) * seen)],
    }


def _object(entry: dict[str, Any]) -> LabelledObject:
    label = class_name(entry["label"])
    x, y, width, height = _numbers(entry["bbox"])
    box = (x, y, x + width, y + height)
    if label in IGNORED:
        return LabelledObject(EVERY_CLASS, box, is_ignored=True)
    if label not in CLASSES:
        raise ValueError(f"label {short(label)}, wanted one of {', '.join(CLASSES + IGNORED)}")
    visible = _numbers(entry.get("bboxVis", entry["bbox"]))
    hidden = round(1 - visible[2] * visible[3] / (width * height), 6) if width * height > 0 else 0.0
    return LabelledObject(label, box, occlusion=(hidden >= PARTLY) + (hidden >= LARGELY))


def _numbers(value: Any) -> tuple[float, float, float, float]:  # noqa: ANN401
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"bbox {short(value)}, wanted x y w h")
    x, y, width, height = map(finite_number, value)
    return x, y, width, height
