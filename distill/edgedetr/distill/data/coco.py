"""COCO object detection: one JSON file of annotations for each split.

Two layouts: ``<split>.json`` with its images in ``<split>/`` (``valid`` serves as ``val``), and
COCO's own ``annotations/instances_<split>2017.json`` with its images in ``<split>2017/``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from edgedetr.distill.data import Sample, Truth
from edgedetr.distill.survey import Survey
from edgedetr.runtime.boxes import clip
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import read_image
from edgedetr.runtime.settings import nearest
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPLITS = {"train": ("train",), "val": ("val", "valid")}
"""Names under which a split may lie on disk."""
FRAME_NS = 100_000_000
"""Photos have no capture time: ten a second, in the order of the file."""


class CocoDataset:
    """A split of a COCO data set: labels in memory, images on disk."""

    def __init__(self, root: Path, split: str, class_names: tuple[str, ...]) -> None:
        files = [_read(source) for source in _sources(root, split)]
        for file in files:
            for name in class_names:
                if name not in file.categories.values():
                    known = file.categories.values()
                    raise DataError(f"{file.path}: no category {name!r}{nearest(name, known)}")
            for problem in file.problems:
                raise DataError(f"{file.path}: {problem}")
        images = [(file, image) for file in files for image in file.images]
        self.class_names = class_names
        self.ids = tuple(image.path.stem for _, image in images)
        self._paths = tuple(image.path for _, image in images)
        self.truths = tuple(_truth(image, file, class_names) for file, image in images)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; raises DataError when its image cannot be read."""
        frame = Frame(read_image(self._paths[index]), index * FRAME_NS, self.ids[index])
        return Sample(frame, self.truths[index])


def open_dataset(root: Path, split: str, class_names: tuple[str, ...]) -> CocoDataset:
    """Read a split's labels; crowds and categories not in ``class_names`` become ignored areas.

    Args:
        root: The folder of the data set.
        split: ``train``, ``val``, ``all`` (both), or the name of another JSON file.
        class_names: The classes to train, among the file's categories.

    Raises:
        DataError: If a file is missing or damaged, or an annotation is wrong.
    """
    return CocoDataset(root, split, class_names)


def survey(root: Path) -> Survey:
    """Check every annotation and image of both splits; bad ones are reported, not raised.

    Raises:
        DataError: If there is no annotation file, or it is no COCO JSON.
    """
    found = Survey()
    for source in _sources(root, "all"):
        file = _read(source)
        found.problems += [f"{file.path}: {problem}" for problem in file.problems]
        for image in tqdm(file.images, source.path.stem, disable=None, leave=False):
            try:
                hw = read_image(image.path).shape[:2]
            except DataError as error:
                found.problems.append(str(error))
                continue
            if hw != image.hw:
                found.problems.append(f"{image.path}: is {hw}, {file.path} says {image.hw} (H, W)")
                continue
            found.add([file.categories[a.category] for a in image.objects if not a.is_crowd], [])
    return found


class _Source(NamedTuple):
    path: Path
    folder: Path


class _Object(NamedTuple):
    category: int
    box: tuple[float, float, float, float]
    is_crowd: bool


class _Image(NamedTuple):
    path: Path
    hw: tuple[int, int]
    objects: list[_Object]


@dataclass
class _File:
    """One annotation file: its good annotations, and what is wrong with the others."""

    path: Path
    categories: dict[int, str]
    images: list[_Image]
    problems: list[str]


def _sources(root: Path, split: str) -> list[_Source]:
    """Return the annotation files of a split with the folders of their images."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; wanted a COCO data set")
    if split == "all":
        found = [s for names in SPLITS.values() for s in _candidates(root, names)[:1]]
    else:
        found = _candidates(root, SPLITS.get(split, (split,)))[:1]
    if not found:
        raise DataError(
            f"{root}: no annotations for the split {split!r}; wanted {split}.json with images in "
            f"{split}/ or annotations/instances_{split}2017.json with images in {split}2017/"
        )
    return found


def _candidates(root: Path, names: tuple[str, ...]) -> list[_Source]:
    plain = [_Source(root / f"{name}.json", root / name) for name in names]
    folder = root / "annotations"
    dated = [
        _Source(path, root / path.stem.removeprefix("instances_"))
        for name in names
        for path in sorted(folder.glob(f"instances_{name}[0-9]*.json"))
    ]
    return [source for source in plain + dated if source.path.is_file()]


def _read(source: _Source) -> _File:
    try:
        content = json.loads(source.path.read_text(encoding="utf-8"))
        categories = {int(c["id"]): str(c["name"]) for c in content["categories"]}
        images = {int(i["id"]): _image(i, source.folder) for i in content["images"]}
        annotations = list(content["annotations"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{source.path}: not a COCO annotation file ({what}); wanted images, annotations and "
            "categories"
        ) from error
    if not images:
        raise DataError(f"{source.path}: lists no image")
    file = _File(source.path, categories, list(images.values()), [])
    on_disk = {p for p in source.folder.rglob("*") if p.is_file()}
    file.problems += [f"image {i.path} is missing" for i in file.images if i.path not in on_disk]
    for index, annotation in enumerate(annotations):
        problem = _add(annotation, images, categories)
        if problem:
            name = annotation.get("id", "?") if isinstance(annotation, dict) else "?"
            file.problems.append(f"annotations[{index}] (id {name}): {problem}")
    return file


def _image(entry: dict[str, Any], folder: Path) -> _Image:
    return _Image(folder / entry["file_name"], (int(entry["height"]), int(entry["width"])), [])


def _add(annotation: Any, images: dict[int, _Image], categories: dict[int, str]) -> str:  # noqa: ANN401
    """Add an annotation to its image, or return what is wrong with it."""
    try:
        image_id, category = int(annotation["image_id"]), int(annotation["category_id"])
        x, y, width, height = (float(v) for v in annotation["bbox"])
        is_crowd = bool(annotation.get("iscrowd", 0))
    except (KeyError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}; wanted image_id, category_id and bbox x y w h"
    if image_id not in images:
        return f"no image has the id {image_id}"
    if category not in categories:
        return f"no category has the id {category}"
    image = images[image_id]
    problem = _box_problem((x, y, width, height), image.hw)
    if not problem:
        image.objects.append(_Object(category, (x, y, x + width, y + height), is_crowd))
    return problem


def _box_problem(box: tuple[float, float, float, float], hw: tuple[int, int]) -> str:
    x, y, width, height = box
    text = " ".join(f"{v:g}" for v in box)
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: all(map(math.isfinite, box)), "wanted finite numbers"),
        (lambda: width > 0 and height > 0, "wanted a positive width and height"),
        (
            lambda: x < hw[1] and y < hw[0] and x + width > 0 and y + height > 0,
            f"it lies outside the image of {hw[1]} x {hw[0]} px",
        ),
    )
    for holds, wanted in checks:
        if not holds():
            return f"bbox {text}: {wanted}"
    return ""


def _truth(image: _Image, file: _File, class_names: tuple[str, ...]) -> Truth:
    index = {name: i for i, name in enumerate(class_names)}
    labels = np.array(
        [-1 if o.is_crowd else index.get(file.categories[o.category], -1) for o in image.objects],
        np.int64,
    )
    corners = np.array([o.box for o in image.objects], np.float64).reshape(-1, 4)
    boxes = clip(corners, image.hw).astype(np.float32)
    wanted = labels >= 0
    count = int(wanted.sum())
    return Truth(
        boxes=boxes[wanted],
        labels=labels[wanted],
        truncation=np.zeros(count, np.float32),
        occlusion=np.zeros(count, np.int64),
        ignored=boxes[~wanted],
    )
