"""COCO object detection: one JSON file of annotations for each split.

Two layouts: ``<split>.json`` with its images in ``<split>/`` (``valid`` serves as ``val``), and
COCO's own ``annotations/instances_<split>2017.json`` with its images in ``<split>2017/``. A split
that ends in ``.json`` is the name of such a file. An image's name may lead elsewhere: it may be
absolute or hold ``..``, and folders may be linked.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from edgedetr.distill.data import FRAME_NS, Sample, Truth
from edgedetr.distill.dataset_survey import Survey
from edgedetr.distill.labels.coco_annotations import is_there, read_annotations
from edgedetr.distill.labels.coco_files import SPLITS, find_sources
from edgedetr.distill.labels.frames import (
    LabelledFrame,
    LabelledObject,
    LabelSet,
    frame_stems,
    size_problem,
    turned_note,
)
from edgedetr.distill.labels.keeps import Keeps
from edgedetr.distill.labels.label_files import is_hidden
from edgedetr.distill.labels.writing import place_image, require_own_names, rounded
from edgedetr.runtime.boxes import clip
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import write_text
from edgedetr.runtime.images import read_image, read_sound_image
from edgedetr.runtime.images.headers import UPRIGHT, image_header
from edgedetr.runtime.settings import nearest
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from edgedetr.distill.data import Untrained
    from edgedetr.distill.labels.coco_annotations import AnnotationFile, CocoImage
    from edgedetr.distill.labels.frames import CheckedFrame
    from edgedetr.runtime.images.headers import ImageHeader

LAYOUT = "train.json with images in train/, or annotations/instances_train2017.json"
KEEPS = Keeps(ignored="class")
BEYOND = "masks and keypoints"


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
                    raise DataError(size_problem(image.path, header, image.hw, str(file.path)))
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


def is_here(root: Path) -> bool:
    """Tell whether a folder holds an annotation file where one of COCO's lies."""
    at_top = [root / f"{name}.json" for names in SPLITS.values() for name in names]
    inside = [path for path in (root / "annotations").glob("*.json") if not is_hidden(path)]
    return bool(inside) or any(path.is_file() for path in at_top)


def splits(root: Path) -> tuple[str, ...]:
    """List the splits that have an annotation file."""
    return tuple(split for split in SPLITS if _has(root, split))


def _has(root: Path, split: str) -> bool:
    try:
        return bool(find_sources(root, split))
    except DataError:
        return False


def images(root: Path, split: str) -> list[Path]:
    """List a split's images, in the order of its annotation files."""
    files = [read_annotations(source) for source in find_sources(root, split)]
    return [image.path for file in files for image in file.images]


def read(root: Path, split: str) -> LabelSet:
    """Read a split's annotations, whatever their categories.

    Raises:
        DataError: If there is no annotation file, or it is no COCO JSON.
    """
    files = [read_annotations(source) for source in find_sources(root, split)]
    names = dict.fromkeys(name for file in files for name in file.categories.values())
    found = LabelSet(root, tuple(names), is_closed=True)
    rows = [(file, image) for file in files for image in file.images]
    stems = frame_stems(image.path for _, image in rows)
    for (file, image), stem in zip(rows, stems, strict=True):
        objects = [
            LabelledObject(file.categories[o.category], o.box, o.is_crowd) for o in image.objects
        ]
        found.frames.append(LabelledFrame(image.path, str(file.path), image.hw, objects, stem))
    found.problems += [f"{file.path}: {problem}" for file in files for problem in file.problems]
    found.notes += _notes(files, 0)
    return found


def write(
    out: Path, splits: Mapping[str, list[CheckedFrame]], class_names: tuple[str, ...]
) -> None:
    """Write frames into a new folder; images and annotations are numbered from 1.

    Raises:
        DataError: If two frames of a split have the same name.
    """
    ids = {name: i for i, name in enumerate(class_names, 1)}
    categories = [{"id": i, "name": name} for name, i in ids.items()]
    for split, frames in splits.items():
        require_own_names(frames)
        listed, annotations = [], []
        for number, frame in enumerate(frames, 1):
            name = f"{frame.name}{frame.path.suffix.lower()}"
            place_image(frame.path, out / split / name)
            height, width = frame.hw
            listed.append({"id": number, "file_name": name, "height": height, "width": width})
            annotations += [_annotation(o, number, ids) for o in frame.objects]
        rows = [{"id": i, **annotation} for i, annotation in enumerate(annotations, 1)]
        content = {"images": listed, "categories": categories, "annotations": rows}
        write_text(out / f"{split}.json", json.dumps(content) + "\n")


def _annotation(obj: LabelledObject, image: int, ids: Mapping[str, int]) -> dict[str, object]:
    x0, y0, x1, y1 = obj.box
    return {
        "image_id": image,
        "category_id": ids[obj.name],
        "bbox": [rounded(v) for v in (x0, y0, x1 - x0, y1 - y0)],
        "area": rounded((x1 - x0) * (y1 - y0)),
        "iscrowd": int(obj.is_ignored),
    }


def survey(root: Path, *, decode: bool = False) -> Survey:
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
        for image in tqdm(there, source.path.stem, unit="frame", disable=None, leave=False):
            try:
                header = image_header(image.path)
                if decode:
                    read_sound_image(image.path)
            except DataError as error:
                found.problems.append(str(error))
                continue
            if header.hw != image.hw:
                problem = size_problem(image.path, header, image.hw, str(file.path))
                found.problems.append(problem)
                continue
            turned += _is_turned_unseen(header)
            found.add([file.categories[a.category] for a in image.objects if not a.is_crowd], [])
    found.notes += _notes(files, turned)
    return found


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
        notes.append(turned_note(turned))
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
