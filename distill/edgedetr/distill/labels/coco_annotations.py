"""What a COCO annotation file holds: its good annotations, and what is wrong with the others."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from edgedetr.distill.labels.coco_entries import (
    class_name,
    crowd_flag,
    finite_number,
    reason,
    repeated,
    short,
    whole_number,
)
from edgedetr.distill.labels.label_files import read_label_json
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import in_any_case

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedetr.distill.labels.coco_files import Source

T = TypeVar("T")

LEAST_BOXES = 10
"""With fewer, how many end beyond their pictures says little."""
MOST_BEYOND = 0.3
"""The share of boxes that may end beyond their pictures."""
BEYOND = 0.05
"""How far beyond it a box must end to count, as a share of the picture."""


class CocoObject(NamedTuple):
    """A box, corners in pixels of its image, not cut at the image's edge."""

    category: int
    box: tuple[float, float, float, float]
    is_crowd: bool


class CocoImage(NamedTuple):
    """An image with the height and width that its labels are made for."""

    path: Path
    hw: tuple[int, int]
    objects: list[CocoObject]


@dataclass
class AnnotationFile:
    """One annotation file: its good annotations, and what is wrong with the others.

    Attributes:
        path: The file.
        categories: The name of each category id.
        images: The images, in the order of the file, with their good objects.
        problems: What is wrong, one line each.
        num_boxes: How many boxes the images have.
        num_flat: How many of them have no area, and are no objects.
    """

    path: Path
    categories: dict[int, str]
    images: list[CocoImage]
    problems: list[str] = field(default_factory=list)
    num_boxes: int = 0
    num_flat: int = 0


def read_annotations(source: Source) -> AnnotationFile:
    """Read an annotation file and look for its images; problems are collected, not raised.

    Raises:
        DataError: If the file is no COCO JSON, or lists no image.
    """
    content = read_label_json(source.path)
    try:
        annotations = _rows(content, "annotations")
        categories = _parsed(content, "categories", lambda row: class_name(row["name"]))
        images = _parsed(content, "images", lambda row: _image(row, source.folder))
    except ValueError as error:
        raise DataError(
            f"{source.path}: not a COCO annotation file ({error}); wanted images, annotations and "
            "categories"
        ) from error
    if not images:
        raise DataError(f"{source.path}: lists no image")
    file = AnnotationFile(source.path, dict(categories), [])
    file.problems += _category_problems(categories, annotations)
    unclear = _check_images(file, images)
    by_id = {i: image for i, image in images if i not in unclear}
    file.images += by_id.values()
    for index, annotation in enumerate(annotations):
        problem = _add(annotation, file, by_id, unclear)
        if problem:
            name = short(annotation.get("id", "?")) if isinstance(annotation, dict) else "?"
            file.problems.append(f"annotations[{index}] (id {name}): {problem}")
    corners = [max(o.box) for image in file.images for o in image.objects]
    if corners and max(corners) <= 1:
        file.problems.append("no box reaches beyond 1: shares of the image? wanted pixels, x y w h")
    file.problems += _corner_problem(file)
    return file


def _corner_problem(file: AnnotationFile) -> list[str]:
    """Doubt boxes whose sizes carry most of them beyond their pictures, as second corners would."""
    boxes = [(o.box, image.hw) for image in file.images for o in image.objects]
    beyond = [
        x1 > (1 + BEYOND) * width or y1 > (1 + BEYOND) * height
        for (_, _, x1, y1), (height, width) in boxes
    ]
    if len(boxes) < LEAST_BOXES or sum(beyond) < MOST_BEYOND * len(boxes):
        return []
    return [
        f"{sum(beyond)} of {len(boxes)} boxes end beyond their pictures: two corners each? wanted "
        "pixels, x y w h"
    ]


def _rows(content: object, key: str) -> list[Any]:
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ValueError(f"no list of {key}")  # noqa: TRY004 - what a file holds is a value
    return rows


def _parsed(content: object, key: str, parse: Callable[[Any], T]) -> list[tuple[int, T]]:
    """Return the id of each row of a list, with the parsed row."""
    rows = _rows(content, key)
    index, found = 0, []
    try:
        for index, row in enumerate(rows):  # noqa: B007 - for the message
            found.append((whole_number(row["id"]), parse(row)))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{key}[{index}]: {reason(error)}") from error
    return found


def _image(entry: dict[str, Any], folder: Path) -> CocoImage:
    name = entry["file_name"]
    if not isinstance(name, str) or not name.isprintable():
        raise ValueError(f"file_name {short(name)}, wanted printable text")
    path = folder / name
    if not is_there(path):  # x/../y leads to y, also where there is no x
        path = in_any_case(Path(os.path.normpath(path)))
    return CocoImage(path, (whole_number(entry["height"]), whole_number(entry["width"])), [])


def _category_problems(categories: list[tuple[int, str]], annotations: list[Any]) -> list[str]:
    """Name categories that share an id; and used ones that share a name, as no root does."""
    different = dict.fromkeys(categories)
    problems = [
        f"the id {i} is that of the categories "
        f"{' and '.join(repr(name) for j, name in different if j == i)}"
        for i in repeated(i for i, _ in different)
    ]
    used = {_id_or_none(a.get("category_id")) for a in annotations if isinstance(a, dict)}
    in_use = [(i, name) for i, name in different if i in used]
    problems += [
        f"the categories {' and '.join(str(i) for i, other in in_use if other == name)} are both "
        f"named {name!r} and both have annotations; join them or name them apart"
        for name in repeated(name for _, name in in_use)
    ]
    return problems


def _id_or_none(value: object) -> int | None:
    try:
        return whole_number(value)
    except ValueError:
        return None


def _check_images(file: AnnotationFile, images: list[tuple[int, CocoImage]]) -> set[int]:
    """Note what is wrong with the list of images; return the ids that are not one image's."""
    paths: dict[int, dict[Path, None]] = {}
    ids: dict[str, dict[int, None]] = {}
    for i, image in images:
        paths.setdefault(i, {})[image.path] = None
        ids.setdefault(os.path.normpath(image.path), {})[i] = None
    shared = {i: list(names) for i, names in paths.items() if len(names) > 1}
    file.problems += [
        f"the id {i} is that of the images {' and '.join(map(str, names))}; every image needs its "
        "own, so number the images anew where files were joined"
        for i, names in shared.items()
    ]
    twice = {name: list(numbers) for name, numbers in ids.items() if len(numbers) > 1}
    file.problems += [
        f"the image {name} has the ids {' and '.join(map(str, numbers))}; list it once, with all "
        "its annotations"
        for name, numbers in twice.items()
    ]
    sizes = dict.fromkeys((i, image.path, image.hw) for i, image in images if i not in shared)
    file.problems += [
        f"the image with the id {i} is listed with different sizes"
        for i in repeated(i for i, _, _ in sizes)
    ]
    listed = dict.fromkeys(image.path for _, image in images)
    file.problems += [f"image {path} is missing" for path in listed if not is_there(path)]
    return {*shared, *(i for numbers in twice.values() for i in numbers)}


def _add(
    annotation: Any,  # noqa: ANN401
    file: AnnotationFile,
    images: dict[int, CocoImage],
    unclear: set[int],
) -> str:
    """Add an annotation to its image, or return what is wrong with it."""
    try:
        image_id = whole_number(annotation["image_id"])
        category = whole_number(annotation["category_id"])
        box = _box(annotation["bbox"])
        is_crowd = crowd_flag(annotation.get("iscrowd", 0))
    except (KeyError, TypeError, ValueError) as error:
        return f"{reason(error)}; wanted image_id, category_id and bbox x y w h"
    if image_id in unclear:
        return ""
    if image_id not in images:
        return f"no image has the id {image_id}"
    if category not in file.categories:
        return f"no category has the id {category}"
    image = images[image_id]
    problem = _box_problem(box, image.hw)
    if problem:
        return problem
    file.num_boxes += 1
    x, y, width, height = box
    corners = (x, y, x + width, y + height)
    if _is_flat(corners, image.hw):
        file.num_flat += 1
    else:
        image.objects.append(CocoObject(category, corners, is_crowd))
    return ""


def _box(value: object) -> tuple[float, float, float, float]:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"bbox {short(value)}, wanted a list of four numbers")
    try:
        x, y, width, height = (finite_number(v) for v in value)
    except ValueError as error:
        raise ValueError(f"bbox {short(value)}: {error}") from error
    return x, y, width, height


def _box_problem(box: tuple[float, float, float, float], hw: tuple[int, int]) -> str:
    x, y, width, height = box
    text = " ".join(f"{v:g}" for v in box)
    if width < 0 or height < 0:
        return f"bbox {text}: wanted a positive width and height"
    if width and height and not (x < hw[1] and y < hw[0] and x + width > 0 and y + height > 0):
        return f"bbox {text}: it lies outside the image of {hw[1]} x {hw[0]} px"
    return ""


def _is_flat(corners: tuple[float, float, float, float], hw: tuple[int, int]) -> bool:
    """Tell a box that has no area in the image, at the precision that it is kept in."""
    x0, y0, x1, y1 = corners
    width = np.float32(min(x1, hw[1])) - np.float32(max(x0, 0))
    height = np.float32(min(y1, hw[0])) - np.float32(max(y0, 0))
    return bool(width <= 0 or height <= 0)


def is_there(path: Path) -> bool:
    """Tell whether an image exists, behind any links."""
    try:
        return path.is_file()
    except OSError:  # a name that no file system takes
        return False
