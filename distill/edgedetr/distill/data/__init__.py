"""Labelled data sets, one file per format; every file offers ``open_dataset``.

``open_dataset(root, split, class_names, untrained) -> Dataset`` reads the labels at once, each
image when it is indexed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast

import numpy as np

from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from edgedetr.runtime.types import Frame

Untrained: TypeAlias = Literal["background", "ignored"]
"""What objects of classes that are not trained are: background, or areas that count nothing."""


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
    """What a file in this folder must define."""

    def open_dataset(
        self,
        root: str | os.PathLike[str],
        split: str,
        class_names: tuple[str, ...],
        untrained: Untrained = "background",
    ) -> Dataset:
        """Read a split's labels; raises DataError for a bad folder or label."""
        ...


def open_dataset(
    kind: str,
    root: str | os.PathLike[str],
    split: str,
    class_names: tuple[str, ...],
    untrained: Untrained = "background",
) -> Dataset:
    """Open a split of a data set in the format ``kind`` (a file of this folder).

    Args:
        kind: ``kitti`` or ``coco``.
        root: The data set's folder.
        split: ``train``, ``val`` or ``all``.
        class_names: The classes to train.
        untrained: What every other class is.
    """
    module = cast("DataModule", find(__name__, kind))
    return module.open_dataset(Path(root), split, class_names, untrained)
