"""KITTI object detection: ``training/{image_2,label_2,calib}`` and ``ImageSets``.

Label columns (the benchmark's development kit): type, truncated, occluded, alpha, the 2-D box
(left, top, right, bottom in pixels), height, width, length in metres, location (x, y, z in metres,
camera frame), rotation_y, and for detections a score. Classes may be others than KITTI's.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from edgedetr.distill.data import Sample, Truth
from edgedetr.distill.dataset_survey import Survey
from edgedetr.distill.labels.coco_entries import short
from edgedetr.distill.labels.label_files import is_hidden, read_label_text
from edgedetr.runtime.boxes import clip
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import image_hw, list_images, read_image
from edgedetr.runtime.settings import nearest
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgedetr.distill.data import Untrained

KNOWN_CLASSES = (
    "Car",
    "Van",
    "Truck",
    "Pedestrian",
    "Person_sitting",
    "Cyclist",
    "Tram",
    "Misc",
    "DontCare",
)
_KNOWN = {name.lower() for name in KNOWN_CLASSES}
DONT_CARE = "dontcare"
"""The type, in lower case, of an area that is neither object nor background for any class."""
NEUTRAL = {"van": "car", "person_sitting": "pedestrian"}
"""The types, in lower case, that are neither objects nor background of another class."""
COLUMNS = 15
MOST = 1e9
"""Numbers in a label are smaller than this."""
OCCLUSIONS = (-1, 0, 1, 2, 3)
_ANY_HW = (1 << 30, 1 << 30)
_NO_IMAGE = "frame {!r} has no image in training/image_2"
FRAME_NS = 100_000_000
"""KITTI's camera takes ten frames a second; a frame's time stamp is its place in the split."""


@dataclass(frozen=True, eq=False)
class KittiObjects:
    """The lines of one label or detection file, as columns of length N.

    Attributes:
        types: Class names, str.
        truncated: Share outside the image in [0, 1]; -1 where unknown.
        occluded: 0 visible, 1 partly, 2 largely occluded, 3 unknown; -1 where unknown.
        alpha: Observation angle in radians.
        boxes: Corners (x0, y0, x1, y1) in pixels, (N, 4).
        dimensions: Height, width, length in metres, (N, 3).
        location: Bottom centre x, y, z in the camera frame in metres, (N, 3).
        rotation_y: Heading about the camera's y axis in radians.
        score: Confidence, or None where the file has no such column.
    """

    types: NDArray[np.str_]
    truncated: NDArray[np.float64]
    occluded: NDArray[np.int64]
    alpha: NDArray[np.float64]
    boxes: NDArray[np.float64]
    dimensions: NDArray[np.float64]
    location: NDArray[np.float64]
    rotation_y: NDArray[np.float64]
    score: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.types)


def read_labels(path: str | os.PathLike[str]) -> KittiObjects:
    """Read a KITTI label file (15 columns) or detection file (16); an empty file has no objects.

    Raises:
        DataError: If the file is missing, or a line has too few columns or a value that is no
            finite number; the message gives file and line.
    """
    labels = _parse(read_label_text(Path(path)))
    for number, problem in labels.problems:
        raise DataError(f"{path}:{number}: {problem}")
    return labels.objects


class KittiDataset:
    """A split of a KITTI folder: labels in memory, images on disk."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        class_names: tuple[str, ...],
        untrained: Untrained = "background",
    ) -> None:
        root = Path(root)
        images = image_paths(root, split)
        found = [_read_objects(label_path(root, name), path) for name, path in images.items()]
        others = _other_types(root, [objects for objects, _ in found], class_names)
        if others:
            tqdm.write(f"{root}: {split} has labels of other classes: {others}", file=sys.stderr)
        self.class_names = class_names
        self.ids = tuple(images)
        self._paths = tuple(images.values())
        self.truths = tuple(_truth(objects, hw, class_names, untrained) for objects, hw in found)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; raises DataError when its image cannot be read."""
        frame = Frame(read_image(self._paths[index]), index * FRAME_NS, self.ids[index])
        return Sample(frame, self.truths[index])


def open_dataset(
    root: str | os.PathLike[str],
    split: str,
    class_names: tuple[str, ...],
    untrained: Untrained = "background",
) -> KittiDataset:
    """Read a split's labels.

    DontCare areas are ignored, and so are Van where Car is trained and Person_sitting where
    Pedestrian is: as in the official evaluation, which counts them for no other class. Types that
    are neither trained nor KITTI's own are named with their counts on standard error.

    Args:
        root: The folder that holds ``training`` and ``ImageSets``.
        split: A file of ``ImageSets`` without ``.txt``, or ``all`` for every image.
        class_names: The classes to train: KITTI's or others, as the labels write them.
        untrained: What every other class is: background, or ignored areas.

    Raises:
        DataError: If a folder, list, image or label file is missing, a label is wrong, or no label
            has one of the classes though there are others.
    """
    return KittiDataset(root, split, class_names, untrained)


def image_paths(root: str | os.PathLike[str], split: str) -> dict[str, Path]:
    """Return the images of a split by frame name, in the order of its list.

    Raises:
        DataError: If the folder or the list is missing, a listed image does not exist, or a frame
            has two images.
    """
    root = Path(root)
    found = _images_by_frame(root / "training" / "image_2")
    if split == "all":
        return found
    listing = root / "ImageSets" / f"{split}.txt"
    if not listing.is_file():
        have = sorted(p.stem for p in listing.parent.glob("*.txt") if not is_hidden(p))
        raise DataError(
            f"{listing}: no such list; wanted one frame name a line for the split {split!r}"
            f"{nearest(split, ['all', *have])}"
        )
    chosen: dict[str, Path] = {}
    for number, line in enumerate(read_label_text(listing).splitlines(), 1):
        name = line.strip()
        if name and name not in found:
            raise DataError(f"{listing}:{number}: {_NO_IMAGE.format(name)}")
        if name:
            chosen[name] = found[name]
    if not chosen:
        raise DataError(f"{listing}: the list is empty; wanted one frame name a line")
    return chosen


def _images_by_frame(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in found:
            raise DataError(f"{path}: the frame has another image, {found[path.stem].name}")
        found[path.stem] = path
    return found


def label_path(root: str | os.PathLike[str], name: str) -> Path:
    """Return where the labels of a frame lie."""
    return Path(root) / "training" / "label_2" / f"{name}.txt"


def survey(root: Path) -> Survey:
    """Check every list, label line and image of a folder; bad ones are reported, not raised.

    Raises:
        DataError: If there is no image at all.
    """
    images = image_paths(root, "all")
    found = Survey()
    for listing in sorted((root / "ImageSets").glob("*.txt")):
        if is_hidden(listing):
            continue
        lines = read_label_text(listing).splitlines()
        for number, line in enumerate(lines, 1):
            if line.strip() and line.strip() not in images:
                found.problems.append(f"{listing}:{number}: {_NO_IMAGE.format(line.strip())}")
    for name, image in tqdm(images.items(), "check", unit="frame", disable=None, leave=False):
        _survey_frame(found, label_path(root, name), image)
    own = [f"{name} {count}" for name, count in found.classes.items() if name.lower() not in _KNOWN]
    if own and len(own) < len(found.classes):
        found.notes.append(f"{root}: types that are not KITTI's: {', '.join(sorted(own))}")
    return found


class _Labels(NamedTuple):
    """The good lines of a label file with their line numbers, and what is wrong with the others."""

    objects: KittiObjects
    numbers: list[int]
    problems: list[tuple[int, str]]


def _survey_frame(found: Survey, path: Path, image: Path) -> None:
    problems, hw = [], None
    try:
        height, width, _ = read_image(image).shape
        hw = height, width
    except DataError as error:
        problems.append(str(error))
    try:
        labels = _parse(_label_text(path, image))
    except DataError as error:
        found.problems += [*problems, str(error)]
        return
    of_objects = _object_problems(labels, hw or _ANY_HW)
    in_lines = sorted([*labels.problems, *of_objects])
    problems += [f"{path}:{number}: {problem}" for number, problem in in_lines]
    found.problems += problems
    if hw and not problems:
        classes = sorted({t for t in labels.objects.types.tolist() if t.lower() != DONT_CARE})
        truth = _truth(labels.objects, hw, tuple(classes), "background")
        found.add([classes[k] for k in truth.labels], truth.difficulty().tolist())


def _read_objects(path: Path, image: Path) -> tuple[KittiObjects, tuple[int, int]]:
    labels = _parse(_label_text(path, image))
    hw = image_hw(image)
    problems = labels.problems or list(_object_problems(labels, hw))
    for number, problem in problems:
        raise DataError(f"{path}:{number}: {problem}")
    return labels.objects, hw


def _other_types(root: Path, found: list[KittiObjects], class_names: tuple[str, ...]) -> str:
    """Count the types that are neither trained nor KITTI's; a slip of the pen may be among them.

    Raises:
        DataError: If a type is that of a class but for upper and lower case, or no class occurs.
    """
    counts = Counter(t for objects in found for t in objects.types.tolist())
    others = {t: n for t, n in counts.items() if t not in class_names}
    by_lower = {name.lower(): name for name in class_names}
    for name in others:
        if name.lower() in by_lower:
            raise DataError(
                f"{root}: labels have the type {name!r}, the class to train is "
                f"{by_lower[name.lower()]!r}; write both alike"
            )
    own = {t: n for t, n in others.items() if t.lower() not in _KNOWN}
    shown = ", ".join(f"{ascii(t)[1:-1]} {n}" for t, n in sorted(own.items()))
    if own and not any(name in counts for name in class_names):
        raise DataError(
            f"{root}: no label has one of the classes {', '.join(class_names)}; found {shown}; "
            "set data.classes"
        )
    return shown


def _truth(
    objects: KittiObjects, hw: tuple[int, int], class_names: tuple[str, ...], untrained: Untrained
) -> Truth:
    index = {name: i for i, name in enumerate(class_names)}
    types = objects.types.tolist()
    labels = np.array([index.get(t, -1) for t in types], np.int64)
    boxes = clip(objects.boxes, hw).astype(np.float32)
    wanted = labels >= 0
    lower = {name.lower(): i for name, i in index.items()}
    partner = np.array([lower.get(NEUTRAL.get(t.lower(), ""), -1) for t in types], np.int64)
    everywhere = np.array([t.lower() == DONT_CARE or untrained == "ignored" for t in types], bool)
    ignored = ~wanted & (everywhere | (partner >= 0))
    return Truth(
        boxes=boxes[wanted],
        labels=labels[wanted],
        truncation=np.clip(objects.truncated[wanted], 0, 1).astype(np.float32),
        occlusion=objects.occluded[wanted],
        ignored=boxes[ignored],
        ignored_by=np.where(everywhere, -1, partner)[ignored],
    )


def _object_problems(labels: _Labels, hw: tuple[int, int]) -> Iterator[tuple[int, str]]:
    """Yield (line number, what is wrong) for each object that no truth can be made of."""
    height, width = hw
    objects = labels.objects
    x0, y0, x1, y1 = objects.boxes.T
    empty = (x1 <= x0) | (y1 <= y0)
    outside = (x1 <= 0) | (y1 <= 0) | (x0 >= width) | (y0 >= height)
    for row, number in enumerate(labels.numbers):
        box = " ".join(f"{v:g}" for v in objects.boxes[row])
        if empty[row]:
            yield number, f"box {box} has no area; wanted left < right and top < bottom"
        elif outside[row]:
            yield number, f"box {box} lies outside the image of {width} x {height} px"
        if objects.occluded[row] not in OCCLUSIONS:
            yield number, f"occlusion {objects.occluded[row]}, wanted one of -1 0 1 2 3"
        if objects.truncated[row] != -1 and not 0 <= objects.truncated[row] <= 1:
            yield number, f"truncation {objects.truncated[row]:g}, wanted a share in [0, 1] or -1"


def _label_text(path: Path, image: Path) -> str:
    if not path.is_file():
        raise DataError(
            f"{path}: no labels for {image.name}; an image without objects has an empty file"
        )
    return read_label_text(path)


def _parse(text: str) -> _Labels:
    types, rows = [], []
    numbers, problems = [], []
    columns = 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        problem, values = _numbers(words[1:], columns)
        if problem:
            problems.append((number, problem))
            continue
        columns = len(words)
        types.append(words[0])
        rows.append(values)
        numbers.append(number)
    columns = columns or COLUMNS
    table = np.array(rows, np.float64).reshape(-1, columns - 1)
    return _Labels(_objects(np.array(types, str), table), numbers, problems)


def _numbers(words: list[str], columns: int) -> tuple[str, list[float]]:
    """Return what is wrong with the columns after the class, or nothing and their values."""
    found = len(words) + 1
    if found not in {COLUMNS, COLUMNS + 1}:
        return f"found {found} columns, wanted {COLUMNS} (or 16 with a score)", []
    if columns and found != columns:
        return f"found {found} columns, the lines above have {columns}", []
    values = []
    for word in words:
        try:
            values.append(float(word))
        except ValueError:
            values.append(math.nan)
        if not abs(values[-1]) < MOST:
            return f"found {short(word)}, wanted a finite number", []
    if not values[1].is_integer():
        return f"found the occlusion {words[1]}, wanted a whole number", []
    return "", values


def _objects(types: NDArray[np.str_], values: NDArray[np.float64]) -> KittiObjects:
    return KittiObjects(
        types=types,
        truncated=values[:, 0],
        occluded=values[:, 1].astype(np.int64),
        alpha=values[:, 2],
        boxes=values[:, 3:7],
        dimensions=values[:, 7:10],
        location=values[:, 10:13],
        rotation_y=values[:, 13],
        score=values[:, 14] if values.shape[1] == COLUMNS else None,
    )
