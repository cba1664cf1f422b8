"""Write a data set in another format, and say what that loses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgedetr.distill.data import data_module
from edgedetr.distill.dataset_format import FORMATS
from edgedetr.distill.labels.frames import EVERY_CLASS, checked
from edgedetr.distill.labels.keeps import fitted
from edgedetr.runtime.errors import DataError, UsageError
from edgedetr.runtime.files import unfinished_folder
from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    import os

    from edgedetr.distill.data import DataModule
    from edgedetr.distill.labels.frames import CheckedFrame, LabelSet


@dataclass
class Conversion:
    """What was written, and what was lost.

    Attributes:
        frames: The frames of each split.
        objects: How many objects were written, areas to ignore not among them.
        losses: What the new format has no place for: how many, and what.
        notes: What else is worth knowing, one line each.
    """

    frames: dict[str, int] = field(default_factory=dict)
    objects: int = 0
    losses: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return a line for each loss, the largest first, and for each note."""
        return [f"{count} {what}" for what, count in self.losses.most_common()] + self.notes


def convert(
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    to: str,
    kind: str | None = None,
) -> Conversion:
    """Write the splits of a data set into a new folder.

    Boxes stay where they are to a ten-thousandth of a pixel. Images are hard links where the file
    system has them, and else copies. Nothing is written where a label or an image is wrong.

    Args:
        root: The data set's folder.
        out: The new folder; it may exist if it is empty.
        to: The format to write.
        kind: The format to read; None recognises it.

    Raises:
        DataError: If the data set has problems, or nothing that the format can hold.
        UnknownNameError: If there is no such format.
        UsageError: If ``out`` holds something.
    """
    root, out = Path(root), Path(out)
    target = cast("DataModule", find(FORMATS, to))
    require_new(out)
    found, frames, names = gathered(root, to, kind)
    with unfinished_folder(out) as unfinished:
        target.write(unfinished, frames, names)
        put_in_place(unfinished, out)
    return found


def require_new(out: Path) -> None:
    """Stop unless a folder is empty or missing; raises UsageError."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder; choose a new one")


def put_in_place(unfinished: Path, out: Path) -> None:
    """Name a folder of `unfinished_folder` as it is to be called."""
    if out.is_dir():
        out.rmdir()
    unfinished.replace(out)
    unfinished.mkdir()  # which the context removes


def gathered(
    root: Path, to: str, kind: str | None
) -> tuple[Conversion, dict[str, list[CheckedFrame]], tuple[str, ...]]:
    """Read all splits of a data set, and bring them to what another format can hold.

    Args:
        root: The data set's folder.
        to: The format to write.
        kind: The format to read; None recognises it.

    Returns:
        What is lost, the frames of each split, and the names of all classes.

    Raises:
        DataError: If the data set has problems, or nothing that the format can hold.
    """
    target = cast("DataModule", find(FORMATS, to))
    source = data_module(kind, root)
    found = Conversion()
    if source.BEYOND and source is not target:
        found.notes.append(f"not read, and so not written: {source.BEYOND}")
    splits = source.splits(root)
    if not splits:
        found.notes.append(f"{root} has no splits; all frames are written as train")
    labels = {split: source.read(root, split) for split in splits or ("all",)}
    names = _class_names(labels, target)
    frames = {
        "train" if split == "all" else split: _fitted(one, target, names, found)
        for split, one in labels.items()
    }
    if target.KEEPS.one_folder:
        _name_apart(frames, found)
    found.frames = {split: len(some) for split, some in frames.items()}
    _require_objects(labels, found, to)
    return found, frames, names


def _class_names(labels: dict[str, LabelSet], target: DataModule) -> tuple[str, ...]:
    """Return all classes of all splits, or those of the format that has its own."""
    if target.KEEPS.classes is not None:
        return target.KEEPS.classes
    names = dict.fromkeys(name for one in labels.values() for name in one.names())
    return tuple(name for name in names if name != EVERY_CLASS)


def _fitted(
    labels: LabelSet, target: DataModule, names: tuple[str, ...], found: Conversion
) -> list[CheckedFrame]:
    for problem in labels.problems:
        raise DataError(f"{problem}; see edgedetr data check")
    frames = []
    for frame in checked(labels):
        if isinstance(frame, list):
            raise DataError(f"{frame[0]}; see edgedetr data check")
        frames.append(fitted(frame, target.KEEPS, names, found.losses))
    found.objects += sum(not o.is_ignored for frame in frames for o in frame.objects)
    found.notes += labels.notes
    return frames


def _name_apart(splits: dict[str, list[CheckedFrame]], found: Conversion) -> None:
    """Put the split before the names that several splits have."""
    count = Counter(frame.name for frames in splits.values() for frame in frames)
    renamed = sum(n for n in count.values() if n > 1)
    for split, frames in splits.items():
        frames[:] = [
            frame._replace(name=f"{split}_{frame.name}") if count[frame.name] > 1 else frame
            for frame in frames
        ]
    if renamed:
        found.notes.append(
            f"{renamed} frames have a name that another split has, too, and are written with the "
            "split before it, such as train_000001"
        )


def _require_objects(labels: dict[str, LabelSet], found: Conversion, to: str) -> None:
    """Stop where objects would all be lost."""
    had: Counter[str] = Counter()
    for one in labels.values():
        had.update(one.occurring())
    if had and not found.objects:
        raise DataError(
            f"none of {had.total()} objects can be written as {to}, which has no class of "
            f"{', '.join(sorted(had))}; rename the classes first"
        )
