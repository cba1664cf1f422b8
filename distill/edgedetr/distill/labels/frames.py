"""Frames with labelled boxes, as every format has them, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from edgedetr.distill.labels.coco_entries import is_name, short
from edgedetr.distill.labels.pictures import picture_header, read_sound_picture
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import files_with
from edgedetr.runtime.images.headers import UPRIGHT
from edgedetr.runtime.printable import counted
from edgedetr.runtime.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from edgedetr.runtime.images.headers import ImageHeader

T = TypeVar("T")

EVERY_CLASS = ""
"""The name of an ignored area that counts in no class."""
TRUNCATED = 0.5
"""The truncation of an object of which a format says only that it is truncated."""
OCCLUDED = 1
"""The occlusion of an object of which a format says only that it is occluded."""


class LabelledObject(NamedTuple):
    """A box with its class.

    Attributes:
        name: The class; `EVERY_CLASS` for an ignored area of all of them.
        box: Corners x0, y0, x1, y1 in pixels, not cut at the image's edge.
        is_ignored: Whether it is an area that is neither object nor background.
        truncation: Share of the object outside the image in [0, 1].
        occlusion: KITTI's 0 visible, 1 partly, 2 largely occluded, 3 unknown.
    """

    name: str
    box: tuple[float, float, float, float]
    is_ignored: bool = False
    truncation: float = 0.0
    occlusion: int = 0


class LabelledFrame(NamedTuple):
    """An image with its objects.

    Attributes:
        path: The image.
        labels: The file, and where in it, that its labels come from; for messages.
        hw: Height and width as the labels have them; None where they do not say.
        objects: The objects, in the order of the file.
        name: Name of the frame.
        header: The header of the image, where it was read already.
    """

    path: Path
    labels: str
    hw: tuple[int, int] | None
    objects: list[LabelledObject]
    name: str
    header: ImageHeader | None = None


@dataclass
class LabelSet:
    """The labels of a split.

    Attributes:
        root: The data set's folder.
        class_names: The classes that the format or its files list, in their order; others may
            occur unless ``is_closed``.
        is_closed: Whether every class is listed.
        frames: The frames.
        problems: What is wrong with the labels, one line each.
        notes: What is worth knowing and no problem: one line each.
    """

    root: Path
    class_names: tuple[str, ...] = ()
    is_closed: bool = False
    frames: list[LabelledFrame] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def occurring(self) -> Counter[str]:
        """Count the objects of each class; ignored areas are none."""
        return Counter(o.name for f in self.frames for o in f.objects if not o.is_ignored)

    def names(self) -> tuple[str, ...]:
        """Return the listed classes, and behind them those that occur beside them."""
        every = (o.name for f in self.frames for o in f.objects if o.name != EVERY_CLASS)
        return tuple(dict.fromkeys([*self.class_names, *sorted(set(every))]))

    def require(self, class_names: Iterable[str]) -> None:
        """Stop unless the classes can be trained on these labels.

        Raises:
            DataError: If a class is none of a closed list, or none of the classes has an object
                though others have.
        """
        found = self.occurring()
        wanted = tuple(class_names)
        for name in wanted:
            if self.is_closed and name not in self.class_names:
                raise DataError(f"{self.root}: no class {name!r}{nearest(name, self.class_names)}")
        if found and not any(name in found for name in wanted):
            shown = ", ".join(f"{ascii(name)[1:-1]} {n}" for name, n in sorted(found.items()))
            raise DataError(
                f"{self.root}: no label has one of the classes {', '.join(wanted)}; found {shown}; "
                "set data.classes"
            )


class CheckedFrame(NamedTuple):
    """A frame whose image is there, with its size and the objects that have an area in it."""

    path: Path
    name: str
    hw: tuple[int, int]
    objects: list[LabelledObject]


def checked(labels: LabelSet, *, decode: bool = False) -> Iterator[CheckedFrame | list[str]]:
    """Compare each frame with the header of its image; a bar on standard error shows how far.

    Boxes that have no area in the image, as many formats have them, are left out; when the last
    frame is done, ``labels.notes`` has their number.

    Args:
        labels: The labels.
        decode: Whether every image is read whole.

    Yields:
        The frame, or what is wrong with it.
    """
    boxes = flat = turned = 0
    for frame in tqdm(labels.frames, "check", unit="frame", disable=None, leave=False):
        try:
            header = frame.header or picture_header(frame.path)
            if decode:
                read_sound_picture(frame.path)
        except (DataError, OSError) as error:  # a name may be longer than any file's
            yield [str(error)]
            continue
        hw = header.hw
        turned += header.orientation != UPRIGHT and hw == header.stored_hw
        problems = list(_problems(frame, header))
        if problems:
            yield problems
            continue
        kept = [o for o in frame.objects if has_area(o.box, hw)]
        boxes += len(frame.objects)
        flat += len(frame.objects) - len(kept)
        yield CheckedFrame(frame.path, frame.name, hw, kept)
    if flat:
        labels.notes.append(f"{labels.root}: {flat} of {boxes} boxes have no area and are left out")
    if turned:
        labels.notes.append(turned_note(turned))


def with_bar(files: Iterable[T], count: int) -> Iterable[T]:
    """Show on standard error how many of a data set's label files are read."""
    bar: Iterable[T] = tqdm(files, "labels", count, unit="file", disable=None, leave=False)
    return bar


def lost_images(root: Path, labels: Iterable[Path]) -> list[str]:
    """Note how many label files lie beside those of the images, and have no image.

    Args:
        root: The data set's folder.
        labels: The label file of each image, whether or not it is there.
    """
    known = set(labels)
    lost = sorted(
        path
        for folder, suffix in {(path.parent, path.suffix.lower()) for path in known}
        for path in files_with(folder, suffix)
        if path not in known and path.name != "classes.txt"
    )
    if not lost:
        return []
    return [f"{root}: {counted(len(lost), 'label file')} without an image, such as {lost[0].name}"]


def turned_note(count: int) -> str:
    """Say how many images are turned in a way that their size does not show."""
    return (
        f"{count} images are turned by EXIF without changing their size; their boxes are "
        "taken as those of the upright picture"
    )


def size_problem(image: Path, header: ImageHeader, wanted_hw: tuple[int, int], labels: str) -> str:
    """Say that an image has another size than its labels are made for."""
    found, wanted = (f"{hw[1]} x {hw[0]}" for hw in (header.hw, wanted_hw))
    if header.stored_hw == wanted_hw:
        return (
            f"{image}: is {found} px when it is turned upright as its EXIF orientation "
            f"{header.orientation} says, {labels} has {wanted}; label the upright picture, or "
            "remove the orientation"
        )
    return f"{image}: is {found} px, {labels} has {wanted}; the boxes are of another size"


def has_area(box: tuple[float, float, float, float], hw: tuple[int, int]) -> bool:
    """Tell a box that has an area in its image, at the precision that it is kept in."""
    x0, y0, x1, y1 = box
    if x1 - x0 > 1 and y1 - y0 > 1 and x0 >= 0 and y0 >= 0 and x1 <= hw[1] and y1 <= hw[0]:
        return True  # most of all; numpy's scalars are slow
    width = np.float32(min(x1, hw[1])) - np.float32(max(x0, 0))
    height = np.float32(min(y1, hw[0])) - np.float32(max(y0, 0))
    return bool(width > 0 and height > 0)


def frame_stems(paths: Iterable[Path]) -> list[str]:
    """Name frames by their files; of those with one name in several folders, by folder, too.

    >>> from pathlib import Path
    >>> frame_stems([Path("a/1.png"), Path("b/1.png"), Path("b/2.png")])
    ['a_1', 'b_1', '2']
    """
    paths = list(paths)
    count = Counter(path.stem for path in paths)
    return [p.stem if count[p.stem] == 1 else f"{p.parent.name}_{p.stem}" for p in paths]


def class_problem(name: object) -> str:
    """Say what is wrong with the name of a class; nothing where it can be one."""
    return "" if is_name(name) else f"class {short(name)}, wanted printable text"


def _problems(frame: LabelledFrame, header: ImageHeader) -> Iterator[str]:
    height, width = header.hw
    if frame.hw is not None and frame.hw != header.hw:
        yield size_problem(frame.path, header, frame.hw, frame.labels)
        return
    for index, (_, box, *_) in enumerate(frame.objects):
        x0, y0, x1, y1 = box
        if x1 < x0 or y1 < y0:
            problem = "is turned over; wanted left < right and top < bottom"
        elif x1 > x0 and y1 > y0 and (x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height):
            problem = f"lies outside the image of {width} x {height} px"
        else:
            continue
        yield f"{frame.labels}: box {index + 1} ({x0:g} {y0:g} {x1:g} {y1:g}) {problem}"
