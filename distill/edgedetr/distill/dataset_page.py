"""A page about a data set: problems, classes and sizes, and frames with their boxes drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedetr.distill.data import data_module
from edgedetr.distill.labels.frames import EVERY_CLASS, checked
from edgedetr.distill.labels.pictures import read_picture
from edgedetr.pages.charts import distribution_chart
from edgedetr.pages.pictures import Picture, jpeg_uri
from edgedetr.pages.rendering import Tile, rendered
from edgedetr.runtime.boxes import iou
from edgedetr.runtime.draw import class_colour
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import write_text
from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.distill.dataset_survey import Survey
    from edgedetr.distill.labels.frames import CheckedFrame
    from edgedetr.pages.charts import DistributionChart

TEMPLATE = Path(__file__).with_name("dataset_page.html.jinja")
WIDTH_PX = 720
"""Width of the drawn frames."""
SIZE_CLASSES = 8
"""Classes whose sizes are drawn: the most frequent."""
SAME_IOU = 0.95
"""Overlap from which two boxes of a class are taken for one that was labelled twice."""
GREY = (150, 150, 150)
SMALL_PX, LARGE_PX = 32, 96
"""COCO's limits of small and large objects: sides of squares of the same area."""


def write_page(
    root: str | os.PathLike[str], out: str | os.PathLike[str], kind: str | None, count: int
) -> Survey:
    """Write one HTML file that loads nothing, and return what was found.

    Args:
        root: The data set's folder.
        out: The page.
        kind: The format; None recognises it.
        count: How many frames to draw, evenly spread; those with doubled boxes come first.

    Raises:
        DataError: If the folder holds no data set of that format.
    """
    root = Path(root)
    module = data_module(kind, root)
    found = module.survey(root)
    frames = [f for f in checked(module.read(root, "all")) if not isinstance(f, list)]
    write_text(out, page(root, module.__name__.rpartition(".")[2], found, frames, count))
    return found


def page(root: Path, kind: str, found: Survey, frames: Sequence[CheckedFrame], count: int) -> str:
    """Return the page as HTML."""
    doubled = {frame.name: number for frame in frames if (number := num_doubled(frame))}
    classes = [name for name, _ in found.classes.most_common()]
    rows = [
        {"name": name, "colour": _css(i), "count": found.classes[name]}
        for i, name in enumerate(classes)
    ]
    return rendered(
        TEMPLATE,
        name=root.resolve().name,
        root=str(root),
        lead=f"{kind}: {found.summary()}.",
        tiles=_tiles(found, frames, doubled),
        kinds=[(what, len(lines), lines[0]) for what, lines in found.problems_by_kind()],
        notes=found.notes,
        classes=rows,
        most=max(found.classes.values(), default=1),
        sizes=size_rows(frames, classes),
        chart=_size_chart(frames, classes),
        pictures=_pictures(chosen(frames, doubled, count), classes, doubled),
    )


def num_doubled(frame: CheckedFrame) -> int:
    """Count the boxes that lie on an earlier one of the same class."""
    objects = [o for o in frame.objects if not o.is_ignored]
    total = 0
    for name in {o.name for o in objects}:
        boxes = np.array([o.box for o in objects if o.name == name])
        total += int((np.triu(iou(boxes, boxes), 1) >= SAME_IOU).any(axis=0).sum())
    return total


def chosen(
    frames: Sequence[CheckedFrame], doubled: dict[str, int], count: int
) -> list[CheckedFrame]:
    """Choose frames to draw: a third at most with doubled boxes, the worst first, then the rest."""
    worst = sorted((f for f in frames if f.name in doubled), key=lambda f: -doubled[f.name])
    first = worst[: max(1, count // 3)]
    rest = [frame for frame in frames if frame.name not in doubled]
    wanted = min(count - len(first), len(rest))
    return first + [rest[i * len(rest) // wanted] for i in range(wanted)]


def size_rows(
    frames: Sequence[CheckedFrame], classes: Sequence[str]
) -> list[tuple[str, int, int, int]]:
    """Count each class's small, medium and large objects, by COCO's limits."""
    found = []
    for name in classes:
        sides = _sides(frames, name)
        small, large = int((sides < SMALL_PX).sum()), int((sides > LARGE_PX).sum())
        found.append((name, small, len(sides) - small - large, large))
    return found


def _sides(frames: Sequence[CheckedFrame], name: str) -> NDArray[np.float64]:
    """Return the sides of squares of the same area as a class's boxes, in pixels."""
    boxes = [o.box for f in frames for o in f.objects if o.name == name and not o.is_ignored]
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    sides: NDArray[np.float64] = np.sqrt((corners[:, 2:] - corners[:, :2]).prod(axis=1))
    return sides


def _size_chart(frames: Sequence[CheckedFrame], classes: Sequence[str]) -> DistributionChart | None:
    rows = [
        (name, f"c{i}", sides)
        for i, name in enumerate(classes[:SIZE_CLASSES])
        if len(sides := _sides(frames, name))
    ]
    if not rows:
        return None
    return distribution_chart("Sizes of objects", "side of a square of the same area, px", rows)


def _tiles(found: Survey, frames: Sequence[CheckedFrame], doubled: dict[str, int]) -> list[Tile]:
    problems = len(found.problems)
    ignored = sum(o.is_ignored for frame in frames for o in frame.objects)
    objects = found.classes.total()
    return [
        Tile("Problems", str(problems), "see below" if problems else "none found",
             "bad" if problems else "good"),
        Tile("Good frames", str(found.frames), f"{found.empty} without objects"),
        Tile("Objects", str(objects), f"{objects / max(found.frames, 1):.1f} a frame"),
        Tile("Classes", str(len(found.classes)), counted(ignored, "area") + " to ignore"),
        Tile("Doubled boxes", str(sum(doubled.values())), "of one class, one on the other",
             "undecided" if doubled else ""),
    ]  # fmt: skip


def _pictures(
    frames: Sequence[CheckedFrame], classes: Sequence[str], doubled: dict[str, int]
) -> list[Picture]:
    found = []
    for frame in frames:
        try:
            image = read_picture(frame.path)
        except DataError as error:
            found.append(Picture(frame.name, str(error), ""))
            continue
        count = sum(not o.is_ignored for o in frame.objects)
        detail = counted(count, "object")
        if frame.name in doubled:
            detail += f", {doubled[frame.name]} doubled"
        found.append(Picture(frame.name, detail, jpeg_uri(drawn(image, frame, classes))))
    return found


def drawn(
    image: NDArray[np.uint8], frame: CheckedFrame, classes: Sequence[str]
) -> NDArray[np.uint8]:
    """Draw a frame's boxes in the colours of their classes, and areas to ignore in grey, crossed.

    Args:
        image: RGB, uint8 (H, W, 3).
        frame: Its objects.
        classes: The classes, in the order of their colours.
    """
    height, width = image.shape[:2]
    scale = min(1.0, WIDTH_PX / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for name, box, is_ignored, *_ in frame.objects:
        x0, y0, x1, y1 = (round(side * scale) for side in box)
        if is_ignored or name == EVERY_CLASS:
            cv2.rectangle(picture, (x0, y0), (x1, y1), GREY, 1)
            cv2.line(picture, (x0, y0), (x1, y1), GREY, 1)
            cv2.line(picture, (x0, y1), (x1, y0), GREY, 1)
        else:
            cv2.rectangle(picture, (x0, y0), (x1, y1), class_colour(classes.index(name)), 2)
    return picture.astype(np.uint8)


def _css(index: int) -> str:
    red, green, blue = class_colour(index)
    return f"rgb({red} {green} {blue})"
