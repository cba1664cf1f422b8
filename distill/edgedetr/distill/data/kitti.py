"""KITTI object detection: ``training/{image_2,label_2,calib}`` and ``ImageSets``.

Label columns (the benchmark's development kit): type, truncated, occluded, alpha, the 2-D box
(left, top, right, bottom in pixels), height, width, length in metres, location (x, y, z in metres,
camera frame), rotation_y, and for detections a score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.distill.data import Sample, Truth
from edgedetr.runtime.boxes import clip
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import image_hw, list_images, read_image
from edgedetr.runtime.settings import nearest
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

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
COLUMNS = 15
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


def read_labels(path: Path) -> KittiObjects:
    """Read a KITTI label file (15 columns) or detection file (16); an empty file has no objects.

    Raises:
        DataError: If the file is missing, or a line has too few columns or a value that is no
            finite number; the message gives file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable label file: {error}") from error
    words = text.split()
    columns = len(text.partition("\n")[0].split()) or COLUMNS
    if columns in {COLUMNS, COLUMNS + 1} and len(words) == columns * _count_lines(text):
        table = np.array(words, dtype=str).reshape(-1, columns)
        try:
            values = table[:, 1:].astype(np.float64)
        except ValueError:
            values = np.full((1, 1), np.nan)
        if np.isfinite(values).all() and _columns_are_even(text, columns):
            return _objects(table[:, 0], values)
    problems = list(line_problems(text))
    raise DataError(f"{path}:{problems[0][0]}: {problems[0][1]}")


def line_problems(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, what is wrong) for each line that cannot be read at all."""
    wanted = 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) not in {COLUMNS, COLUMNS + 1}:
            yield number, f"found {len(words)} columns, wanted {COLUMNS} (or 16 with a score)"
        elif wanted and len(words) != wanted:
            yield number, f"found {len(words)} columns, the lines above have {wanted}"
        else:
            wanted = len(words)
            bad = [w for w in words[1:] if not _is_finite(w)]
            if bad:
                yield number, f"found {bad[0]!r}, wanted a finite number"


def object_problems(
    objects: KittiObjects, hw: tuple[int, int], class_names: tuple[str, ...]
) -> Iterator[tuple[int, str]]:
    """Yield (row, what is wrong) for each object of an unknown class or with an impossible box."""
    height, width = hw
    x0, y0, x1, y1 = objects.boxes.T
    empty = (x1 <= x0) | (y1 <= y0)
    outside = (x1 <= 0) | (y1 <= 0) | (x0 >= width) | (y0 >= height)
    unknown = ~np.isin(objects.types, (*class_names, *KNOWN_CLASSES))
    for row in np.flatnonzero(empty | outside | unknown).tolist():
        box = " ".join(f"{v:g}" for v in objects.boxes[row])
        if unknown[row]:
            name = str(objects.types[row])
            yield row, f"unknown class {name!r}{nearest(name, {*class_names, *KNOWN_CLASSES})}"
        elif empty[row]:
            yield row, f"box {box} has no area; wanted left < right and top < bottom"
        else:
            yield row, f"box {box} lies outside the image of {width} x {height} px"


class KittiDataset:
    """A split of a KITTI folder: labels in memory, images on disk."""

    def __init__(self, root: Path, split: str, class_names: tuple[str, ...]) -> None:
        images = image_paths(root, split)
        self.class_names = class_names
        self.ids = tuple(images)
        self._paths = tuple(images.values())
        self.truths = tuple(
            _read_truth(label_path(root, name), path, class_names) for name, path in images.items()
        )

    def __len__(self) -> int:
        return len(self.ids)

    def image_path(self, index: int) -> Path:
        """Return where the image of a frame lies."""
        return self._paths[index]

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; raises DataError when its image cannot be read."""
        frame = Frame(read_image(self._paths[index]), index * FRAME_NS, self.ids[index])
        return Sample(frame, self.truths[index])


def open_dataset(root: Path, split: str, class_names: tuple[str, ...]) -> KittiDataset:
    """Read a split's labels.

    DontCare and every other class of KITTI that is not in ``class_names`` become ignored areas.

    Args:
        root: The folder that holds ``training`` and ``ImageSets``.
        split: A file of ``ImageSets`` without ``.txt``, or ``all`` for every image.
        class_names: The classes to train.

    Raises:
        DataError: If a folder, list, image or label file is missing, or a label is wrong.
    """
    return KittiDataset(root, split, class_names)


def image_paths(root: Path, split: str) -> dict[str, Path]:
    """Return the images of a split by frame name, in the order of its list.

    Raises:
        DataError: If the folder or the list is missing, or a listed image does not exist.
    """
    found = {p.stem: p for p in list_images(root / "training" / "image_2")}
    if split == "all":
        return found
    listing = root / "ImageSets" / f"{split}.txt"
    if not listing.is_file():
        have = sorted(p.stem for p in listing.parent.glob("*.txt"))
        raise DataError(
            f"{listing}: no such list; wanted one frame name a line for the split {split!r}"
            f"{nearest(split, ['all', *have])}"
        )
    chosen: dict[str, Path] = {}
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), 1):
        name = line.strip()
        if name and name not in found:
            raise DataError(f"{listing}:{number}: frame {name!r} has no image in training/image_2")
        if name:
            chosen[name] = found[name]
    if not chosen:
        raise DataError(f"{listing}: the list is empty; wanted one frame name a line")
    return chosen


def label_path(root: Path, name: str) -> Path:
    """Return where the labels of a frame lie."""
    return root / "training" / "label_2" / f"{name}.txt"


def truth_from_objects(
    objects: KittiObjects, hw: tuple[int, int], class_names: tuple[str, ...]
) -> Truth:
    """Turn label lines into a truth: boxes clipped to the image, other classes ignored areas."""
    index = {name: i for i, name in enumerate(class_names)}
    labels = np.array([index.get(str(t), -1) for t in objects.types], np.int64).reshape(-1)
    boxes = clip(objects.boxes, hw).astype(np.float32)
    wanted = labels >= 0
    return Truth(
        boxes=boxes[wanted],
        labels=labels[wanted],
        truncation=np.clip(objects.truncated[wanted], 0, 1).astype(np.float32),
        occlusion=objects.occluded[wanted],
        ignored=boxes[~wanted],
    )


def _read_truth(path: Path, image: Path, class_names: tuple[str, ...]) -> Truth:
    if not path.is_file():
        raise DataError(
            f"{path}: no labels for {image.name}; an image without objects has an empty file"
        )
    objects = read_labels(path)
    hw = image_hw(image)
    for row, problem in object_problems(objects, hw, class_names):
        raise DataError(f"{path}:{line_of_row(path, row)}: {problem}")
    return truth_from_objects(objects, hw, class_names)


def line_of_row(path: Path, row: int) -> int:
    """Return the line number of an object: blank lines count as lines but hold no object."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [i for i, line in enumerate(lines, 1) if line.strip()][row]


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
        score=values[:, 14] if values.shape[1] > 14 else None,
    )


def _count_lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


def _columns_are_even(text: str, columns: int) -> bool:
    return all(len(line.split()) == columns for line in text.splitlines() if line.strip())


def _is_finite(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False
