"""COCO object detection: one JSON file of annotations for each split.

Two layouts: ``<split>.json`` with its images in ``<split>/`` (``valid`` serves as ``val``), and
COCO's own ``annotations/instances_<split>2017.json`` with its images in ``<split>2017/``. A split
that ends in ``.json`` is the name of such a file. An image's name may lead elsewhere: it may be
absolute or hold ``..``, and folders may be linked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from edgedetr.distill.data import Sample, Truth
from edgedetr.distill.dataset_survey import Survey
from edgedetr.distill.labels.coco_annotations import is_there, read_annotations
from edgedetr.distill.labels.coco_files import find_sources
from edgedetr.runtime.boxes import clip
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import read_image, read_sound_image
from edgedetr.runtime.images.headers import UPRIGHT, image_header
from edgedetr.runtime.settings import nearest
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from edgedetr.distill.data import Untrained
    from edgedetr.distill.labels.coco_annotations import AnnotationFile, CocoImage
    from edgedetr.runtime.images.headers import ImageHeader

FRAME_NS = 100_000_000
"""Photos have no capture time: ten a second, in the order of the file."""


class CocoDataset:
    """A split of a COCO data set: labels in memory, images on disk."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        class_names: tuple[str, ...],
        untrained: Untrained = "background",
    ) -> None:
        files = [read_annotations(source) for source in find_sources(Path(root), split)]
        turned = 0
        for file in files:
            for name in class_names:
                if name not in file.categories.values():
                    known = file.categories.values()
                    raise DataError(f"{file.path}: no category {name!r}{nearest(name, known)}")
            for problem in file.problems:
                raise DataError(f"{file.path}: {problem}")
            for image in file.images:
                header = image_header(image.path)
                if header.hw != image.hw:
                    raise DataError(_size_problem(image, header, file.path))
                turned += _is_turned_unseen(header)
        for note in _notes(files, turned):
            tqdm.write(note, file=sys.stderr)
        images = [(file, image) for file in files for image in file.images]
        self.class_names = class_names
        self.ids = tuple(image.path.stem for _, image in images)
        self.paths = tuple(image.path for _, image in images)
        self.truths = tuple(_truth(image, file, class_names, untrained) for file, image in images)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; raises DataError when its image cannot be read."""
        frame = Frame(read_image(self.paths[index]), index * FRAME_NS, self.ids[index])
        return Sample(frame, self.truths[index])


def open_dataset(
    root: str | os.PathLike[str],
    split: str,
    class_names: tuple[str, ...],
    untrained: Untrained = "background",
) -> CocoDataset:
    """Read a split's labels; crowds of the classes become ignored areas.

    A box without width or height, which COCO's own train2017 has, is left out; a line on
    standard error counts them.

    Args:
        root: The folder of the data set.
        split: ``train``, ``val``, ``all`` (both), or the name of another JSON file.
        class_names: The classes to train, among the file's categories.
        untrained: What other categories are: background, as COCO's evaluation of these classes has
            them, or ignored areas.

    Raises:
        DataError: If a file is missing or damaged, an annotation is wrong, or an image has another
            size than its annotations.
    """
    return CocoDataset(root, split, class_names, untrained)


def survey(root: Path) -> Survey:
    """Check every annotation and image of both splits; bad ones are reported, not raised.

    Raises:
        DataError: If there is no annotation file, or it is no COCO JSON.
    """
    found = Survey()
    files, turned = [], 0
    for source in find_sources(root, "all"):
        file = read_annotations(source)
        files.append(file)
        found.problems += [f"{file.path}: {problem}" for problem in file.problems]
        there = [image for image in file.images if is_there(image.path)]
        for image in tqdm(there, source.path.stem, disable=None, leave=False):
            try:
                hw = read_sound_image(image.path).shape[:2]
                header = image_header(image.path)
            except DataError as error:
                found.problems.append(str(error))
                continue
            if hw != image.hw:
                found.problems.append(_size_problem(image, header, file.path))
                continue
            turned += _is_turned_unseen(header)
            found.add([file.categories[a.category] for a in image.objects if not a.is_crowd], [])
    found.notes += _notes(files, turned)
    return found


def _size_problem(image: CocoImage, header: ImageHeader, labels: Path) -> str:
    found, wanted = (f"{hw[1]} x {hw[0]}" for hw in (header.hw, image.hw))
    if header.stored_hw == image.hw:
        return (
            f"{image.path}: is {found} px when it is turned upright as its EXIF orientation "
            f"{header.orientation} says, {labels} has {wanted}; label the upright picture, or "
            "remove the orientation"
        )
    return f"{image.path}: is {found} px, {labels} has {wanted}; the boxes are of another size"


def _is_turned_unseen(header: ImageHeader) -> bool:
    """Tell a picture that EXIF turns without changing its size."""
    return header.orientation != UPRIGHT and header.hw == header.stored_hw


def _notes(files: Iterable[AnnotationFile], turned: int) -> list[str]:
    notes = [
        f"{file.path}: {file.num_flat} of {file.num_boxes} boxes have no area and are left out"
        for file in files
        if file.num_flat
    ]
    if turned:
        notes.append(
            f"{turned} images are turned by EXIF without changing their size; their boxes are "
            "taken as those of the upright picture"
        )
    return notes


def _truth(
    image: CocoImage, file: AnnotationFile, class_names: tuple[str, ...], untrained: Untrained
) -> Truth:
    index = {name: i for i, name in enumerate(class_names)}
    labels = np.array([index.get(file.categories[o.category], -1) for o in image.objects], np.int64)
    is_crowd = np.array([o.is_crowd for o in image.objects], bool)
    corners = np.array([o.box for o in image.objects], np.float64).reshape(-1, 4)
    boxes = clip(corners, image.hw).astype(np.float32)
    wanted = (labels >= 0) & ~is_crowd
    ignored = ~wanted if untrained == "ignored" else (labels >= 0) & is_crowd
    count = int(wanted.sum())
    return Truth(
        boxes=boxes[wanted],
        labels=labels[wanted],
        truncation=np.zeros(count, np.float32),
        occlusion=np.zeros(count, np.int64),
        ignored=boxes[ignored],
        ignored_by=labels[ignored],
    )
