"""KITTI object detection: ``training/{image_2,label_2,calib}`` and ``ImageSets``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from edgedetr.distill.data import FRAME_NS, Sample, Truth
from edgedetr.distill.dataset_survey import Survey
from edgedetr.distill.labels.frames import (
    EVERY_CLASS,
    LabelledFrame,
    LabelledObject,
    LabelSet,
    with_bar,
)
from edgedetr.distill.labels.keeps import Keeps
from edgedetr.distill.labels.kitti_files import (
    DONT_CARE,
    KNOWN_CLASSES,
    NEUTRAL,
    KittiObjects,
    ParsedLabels,
    parse_labels,
)
from edgedetr.distill.labels.label_files import read_label_text
from edgedetr.distill.labels.writing import (
    decimal,
    one_word_names,
    place_image,
    require_own_names,
)
from edgedetr.runtime.boxes import clip
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import files_with, in_any_case, write_text
from edgedetr.runtime.images import image_hw, read_image, read_sound_image
from edgedetr.runtime.kitti import NO_IMAGE, image_paths
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from edgedetr.distill.data import Untrained
    from edgedetr.distill.labels.frames import CheckedFrame

_KNOWN = {name.lower() for name in KNOWN_CLASSES}
OCCLUSIONS = (-1, 0, 1, 2, 3)
_ANY_HW = (1 << 30, 1 << 30)
_NO_3D = "-1 -1 -1 -1000 -1000 -1000 -10"
"""KITTI's values of what is not known: dimensions, location, rotation."""
LAYOUT = "training/image_2 and training/label_2"
KEEPS = Keeps(ignored="every", truncation="share", occlusion="grade", one_folder=True)
BEYOND = "3-D boxes, observation angles, and that a Van is neutral for Car"


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
        self.paths = tuple(images.values())
        self.truths = tuple(_truth(objects, hw, class_names, untrained) for objects, hw in found)

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


def label_path(root: str | os.PathLike[str], name: str) -> Path:
    """Return where the labels of a frame lie."""
    return in_any_case(Path(root) / "training" / "label_2" / f"{name}.txt")


def is_here(root: Path) -> bool:
    """Tell whether a folder looks like KITTI's."""
    return any((root / "training" / name).is_dir() for name in ("image_2", "label_2"))


def splits(root: Path) -> tuple[str, ...]:
    """List the splits of which there is a list."""
    listed = {path.stem for path in files_with(root / "ImageSets", ".txt")}
    return tuple(split for split in ("train", "val") if split in listed)


def images(root: Path, split: str) -> list[Path]:
    """List a split's images, whether or not they have labels."""
    return list(image_paths(root, split).values())


def read(root: Path, split: str) -> LabelSet:
    """Read a split's labels, whatever their classes.

    Raises:
        DataError: If a folder, list or image is missing.
    """
    found = LabelSet(root)
    paths = image_paths(root, split)
    for name, image in with_bar(paths.items(), len(paths)):
        path = label_path(root, name)
        try:
            labels = parse_labels(_label_text(path, image))
        except DataError as error:
            found.problems.append(str(error))
            continue
        problems = sorted([*labels.problems, *_object_problems(labels, _ANY_HW)])
        found.problems += [f"{path}:{line}: {problem}" for line, problem in problems]
        objects = _labelled(labels.objects)
        found.frames.append(LabelledFrame(image, str(path), None, objects, name))
    return found


def _labelled(objects: KittiObjects) -> list[LabelledObject]:
    truncation = np.clip(objects.truncated, 0, 1).tolist()
    rows = zip(
        objects.types.tolist(),
        objects.boxes.tolist(),
        truncation,
        objects.occluded.tolist(),
        strict=True,
    )
    return [
        LabelledObject(EVERY_CLASS, tuple(box), True)
        if name.lower() == DONT_CARE
        else LabelledObject(name, tuple(box), False, share, max(grade, 0))
        for name, box, share, grade in rows
    ]


def write(
    out: Path, splits: Mapping[str, list[CheckedFrame]], class_names: tuple[str, ...]
) -> None:
    """Write frames into a new folder; each frame's images and labels once, in one list or several.

    Raises:
        DataError: If two frames have the same name, or two classes without their spaces.
    """
    words = one_word_names(class_names)
    require_own_names(frame for frames in splits.values() for frame in frames)
    for split, frames in splits.items():
        for frame in frames:
            image = out / "training" / "image_2" / f"{frame.name}{frame.path.suffix.lower()}"
            place_image(frame.path, image)
            lines = "".join(_line(o, words) for o in frame.objects)
            write_text(label_path(out, frame.name), lines)
        write_text(out / "ImageSets" / f"{split}.txt", "".join(f"{f.name}\n" for f in frames))


def _line(obj: LabelledObject, words: Mapping[str, str]) -> str:
    box = " ".join(map(decimal, obj.box))
    if obj.is_ignored:
        return f"DontCare -1 -1 -10 {box} {_NO_3D}\n"
    return f"{words[obj.name]} {decimal(obj.truncation)} {obj.occlusion} -10 {box} {_NO_3D}\n"


def survey(root: Path, *, decode: bool = False) -> Survey:
    """Check every list, label line and image of a folder; bad ones are reported, not raised.

    Raises:
        DataError: If there is no image at all.
    """
    images = image_paths(root, "all")
    found = Survey()
    for listing in files_with(root / "ImageSets", ".txt"):
        lines = read_label_text(listing).splitlines()
        for number, line in enumerate(lines, 1):
            if line.strip() and line.strip() not in images:
                found.problems.append(f"{listing}:{number}: {NO_IMAGE.format(line.strip())}")
    for name, image in tqdm(images.items(), "check", unit="frame", disable=None, leave=False):
        _survey_frame(found, label_path(root, name), image, decode=decode)
    own = [f"{name} {count}" for name, count in found.classes.items() if name.lower() not in _KNOWN]
    if own and len(own) < len(found.classes):
        found.notes.append(f"{root}: types that are not KITTI's: {', '.join(sorted(own))}")
    return found


def _survey_frame(found: Survey, path: Path, image: Path, *, decode: bool) -> None:
    problems, hw = [], None
    try:
        hw = image_hw(image)
        if decode:
            read_sound_image(image)
    except DataError as error:
        problems.append(str(error))
    try:
        labels = parse_labels(_label_text(path, image))
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
    labels = parse_labels(_label_text(path, image))
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
                f"{by_lower[name.lower()]!r}; spell both the same"
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


def _object_problems(labels: ParsedLabels, hw: tuple[int, int]) -> Iterator[tuple[int, str]]:
    """Yield (line number, what is wrong) for each object that cannot be part of a truth."""
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
