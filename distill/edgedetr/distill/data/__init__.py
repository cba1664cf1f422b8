"""Labelled data sets, one file per format: every file is a `DataModule`.

``open_dataset(root, split, class_names, untrained) -> Dataset`` reads the labels at once, each
image when it is indexed; ``read`` gives them as any format has them, for conversion and pages.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast

import numpy as np
from tqdm import tqdm

from edgedetr.distill.dataset_format import recognised
from edgedetr.distill.labels.frames import EVERY_CLASS, checked
from edgedetr.distill.labels.pictures import read_picture
from edgedetr.runtime.boxes import clip
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.plugins import find
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from edgedetr.distill.dataset_survey import Survey
    from edgedetr.distill.labels.frames import CheckedFrame, LabelSet
    from edgedetr.distill.labels.keeps import Keeps

Untrained: TypeAlias = Literal["background", "ignored"]
"""What objects of classes that are not trained are: background, or areas that count nothing."""


FRAME_NS = 100_000_000
"""Photos have no capture time: ten frames a second, in the order of the split."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The labelled objects of one frame.

    Attributes:
        boxes: Corners (x0, y0, x1, y1) in source pixels, float32 (N, 4).
        labels: Indices into the data set's class names, int64 (N,).
        truncation: Share of the object outside the image in [0, 1], float32 (N,).
        occlusion: KITTI's 0 visible, 1 partly, 2 largely occluded, 3 unknown, int64 (N,).
        ignored: Areas that are neither object nor background (KITTI's DontCare, COCO's crowds),
            corners in source pixels, float32 (M, 4). Training is blind in each of them.
        ignored_by: The class in whose evaluation each area counts, int64 (M,): that of a crowd, Car
            for a Van; -1 is every class, and so it is where nothing is given.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    truncation: NDArray[np.float32]
    occlusion: NDArray[np.int64]
    ignored: NDArray[np.float32]
    ignored_by: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        n = len(self.labels)
        shapes = (self.boxes.shape, self.truncation.shape, self.occlusion.shape)
        if shapes != ((n, 4), (n,), (n,)) or self.ignored.shape[1:] != (4,):
            raise ValueError(f"a truth of {n} objects cannot have the shapes {shapes}")
        if not len(self.ignored_by):
            object.__setattr__(self, "ignored_by", np.full(len(self.ignored), -1))
        if self.ignored_by.shape != self.ignored.shape[:1]:
            raise ValueError(f"{len(self.ignored)} areas, {len(self.ignored_by)} classes of them")

    def difficulty(self) -> NDArray[np.int64]:
        """Return KITTI's class of each object: 0 easy, 1 moderate, 2 hard, 3 none of them.

        Easy: at least 40 px high, fully visible, truncated at most 0.15; moderate: 25 px, partly
        occluded, 0.30; hard: 25 px, largely occluded, 0.50.
        """
        height = self.boxes[:, 3] - self.boxes[:, 1]
        grade = np.full(len(self.labels), 3, np.int64)
        limits = ((2, 25, 2, 0.5), (1, 25, 1, 0.3), (0, 40, 0, 0.15))
        for level, min_height_px, max_occlusion, max_truncation in limits:
            fits = (
                (height >= min_height_px)
                & (self.occlusion <= max_occlusion)
                & (self.truncation <= max_truncation)
            )
            grade[fits] = level
        return grade


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame with its labels.

    Attributes:
        frame: The image.
        truth: Its objects; none where it has no labels.
        labelled: Whether it has labels.
    """

    frame: Frame
    truth: Truth
    labelled: bool = True


class Dataset(Protocol):
    """A split of a data set in memory, images on disk.

    Attributes:
        class_names: The classes, in the order of the labels.
        ids: Name of each frame.
        paths: Image file of each frame.
        truths: The labels of each frame, in the order of ``ids``.
    """

    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    truths: tuple[Truth, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; raises DataError when its image cannot be read."""
        ...


class DataModule(Protocol):
    """What a file in this folder must define.

    Attributes:
        LAYOUT: Where the format's files lie, for messages.
        KEEPS: Which facts of a label the format has a place for.
        BEYOND: What its labels hold that is no 2-D box and is not read.
    """

    __name__: str
    LAYOUT: str
    KEEPS: Keeps
    BEYOND: str

    def is_here(self, root: Path) -> bool:
        """Tell whether a folder looks like a data set of this format."""
        ...

    def splits(self, root: Path) -> tuple[str, ...]:
        """List the splits of a folder, ``train`` before ``val``; none where it has no splits."""
        ...

    def images(self, root: Path, split: str) -> list[Path]:
        """List a split's images, in the order of its frames; raises DataError."""
        ...

    def read(self, root: Path, split: str) -> LabelSet:
        """Read a split's labels; bad ones are noted, not raised. Raises DataError where none."""
        ...

    def open_dataset(
        self,
        root: str | os.PathLike[str],
        split: str,
        class_names: tuple[str, ...],
        untrained: Untrained = "background",
    ) -> Dataset:
        """Read a split's labels; raises DataError for a bad folder or label."""
        ...

    def survey(self, root: Path, *, decode: bool = False) -> Survey:
        """Check all labels, and the headers of all images; raises DataError where none is."""
        ...

    def write(
        self, out: Path, splits: Mapping[str, list[CheckedFrame]], class_names: tuple[str, ...]
    ) -> None:
        """Write frames into a new folder; raises DataError for names that cannot be written."""
        ...


class FrameDataset:
    """A split of any format: labels in memory, images on disk.

    Args:
        labels: The labels.
        class_names: The classes to train.
        untrained: What every other class is.

    Raises:
        DataError: If a label is wrong, an image is missing or has another size than its labels, or
            the classes are not there.
    """

    def __init__(
        self, labels: LabelSet, class_names: tuple[str, ...], untrained: Untrained = "background"
    ) -> None:
        for problem in labels.problems:
            raise DataError(problem)
        labels.require(class_names)
        frames = []
        for frame in checked(labels):
            if isinstance(frame, list):
                raise DataError(frame[0])
            frames.append(frame)
        for note in labels.notes:
            tqdm.write(note, file=sys.stderr)
        self.class_names = class_names
        self.ids = tuple(frame.name for frame in frames)
        self.paths = tuple(frame.path for frame in frames)
        self.truths = tuple(truth_of(frame, class_names, untrained) for frame in frames)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; raises DataError when its image cannot be read."""
        frame = Frame(read_picture(self.paths[index]), index * FRAME_NS, self.ids[index])
        return Sample(frame, self.truths[index])


class OpenDataset(Protocol):
    """The function ``open_dataset`` of a format."""

    def __call__(
        self,
        root: str | os.PathLike[str],
        split: str,
        class_names: tuple[str, ...],
        untrained: Untrained = "background",
    ) -> FrameDataset:
        """Read a split's labels; raises DataError for a bad folder or label."""
        ...


def opener(read: Callable[[Path, str], LabelSet]) -> OpenDataset:
    """Make the ``open_dataset`` of a format whose splits are `FrameDataset`, of its ``read``."""

    def open_dataset(
        root: str | os.PathLike[str],
        split: str,
        class_names: tuple[str, ...],
        untrained: Untrained = "background",
    ) -> FrameDataset:
        return FrameDataset(read(Path(root), split), class_names, untrained)

    return open_dataset


def truth_of(frame: CheckedFrame, class_names: tuple[str, ...], untrained: Untrained) -> Truth:
    """Return the truth of a frame: its objects of some classes, and the areas to ignore."""
    index = {name: i for i, name in enumerate(class_names)}
    objects = frame.objects
    labels = np.array([index.get(o.name, -1) for o in objects], np.int64)
    is_ignored = np.array([o.is_ignored for o in objects], bool)
    is_every = np.array([o.name == EVERY_CLASS for o in objects], bool)
    corners = np.array([o.box for o in objects], np.float64).reshape(-1, 4)
    boxes = clip(corners, frame.hw).astype(np.float32)
    wanted = (labels >= 0) & ~is_ignored
    ignored = is_ignored & (is_every | (labels >= 0))
    if untrained == "ignored":
        ignored = ~wanted
    return Truth(
        boxes=boxes[wanted],
        labels=labels[wanted],
        truncation=np.array([o.truncation for o in objects], np.float32)[wanted],
        occlusion=np.array([o.occlusion for o in objects], np.int64)[wanted],
        ignored=boxes[ignored],
        ignored_by=labels[ignored],
    )


def data_module(kind: str | None, root: Path) -> DataModule:
    """Return the module of a format; see `edgedetr.distill.dataset_format.recognised`."""
    return cast("DataModule", find(__name__, recognised(root, kind)))


def open_dataset(
    kind: str,
    root: str | os.PathLike[str],
    split: str,
    class_names: tuple[str, ...],
    untrained: Untrained = "background",
) -> Dataset:
    """Open a split of a data set in the format ``kind`` (a file of this folder).

    Args:
        kind: ``kitti``, ``coco``, ``yolo`` and so on; ``auto`` looks at the folder.
        root: The data set's folder.
        split: ``train``, ``val`` or ``all``.
        class_names: The classes to train.
        untrained: What every other class is.
    """
    root = Path(root)
    return data_module(kind, root).open_dataset(root, split, class_names, untrained)


def split_images(root: str | os.PathLike[str], split: str, kind: str | None = None) -> list[Path]:
    """List the images of a split; all where the data set has no splits.

    Args:
        root: The data set's folder.
        split: ``train``, ``val`` or ``all``.
        kind: The format; None looks at the folder.

    Raises:
        DataError: If the folder, the split or an image is missing.
    """
    root = Path(root)
    module = data_module(kind, root)
    return module.images(root, split)


def training_images(root: Path, kind: str | None = None) -> list[Path]:
    """List the training split's images; all where the data set has no such split."""
    module = data_module(kind, root)
    return module.images(root, "train" if "train" in module.splits(root) else "all")
