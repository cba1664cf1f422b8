"""What a data set holds and what is wrong with it: every problem, not only the first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from edgedetr.distill.labels.label_files import is_hidden
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

DIFFICULTIES = ("easy", "moderate", "hard", "none")
"""Names of what `edgedetr.distill.data.Truth.difficulty` returns."""


@dataclass
class Survey:
    """Counts over the good frames of a data set, and all problems of the others.

    Attributes:
        frames: Frames without any problem.
        empty: Those of them without objects.
        classes: Objects of each class.
        difficulty: Objects of each of ``DIFFICULTIES``.
        problems: One line each: file, line or annotation, what was found and wanted.
        notes: What is worth knowing and no problem: one line each.
    """

    frames: int = 0
    empty: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    difficulty: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, classes: Iterable[str], difficulty: Iterable[int]) -> None:
        """Count one good frame's objects."""
        before = self.classes.total()
        self.classes.update(classes)
        self.difficulty.update(DIFFICULTIES[level] for level in difficulty)
        self.frames += 1
        self.empty += self.classes.total() == before

    def summary(self) -> str:
        """Sum it up in one line."""
        objects = " ".join(f"{name} {count}" for name, count in sorted(self.classes.items()))
        return (
            f"{_counted(self.frames, 'good frame')} ({self.empty} empty), "
            f"{_counted(self.classes.total(), 'object')}{': ' + objects if objects else ''}; "
            f"{_counted(len(self.problems), 'problem')}"
        )


class SurveyingModule(Protocol):
    """What a file of ``edgedetr.distill.data`` defines beside ``open_dataset``."""

    def survey(self, root: Path) -> Survey:
        """Check every label and image below a folder."""
        ...


def survey(root: str | os.PathLike[str], kind: str | None = None) -> Survey:
    """Check every label and image of a data set.

    Args:
        root: The data set's folder.
        kind: ``kitti`` or ``coco``; None to detect it from the folder.

    Raises:
        DataError: If the folder is missing or holds no data set of that format.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; wanted a KITTI or COCO data set")
    kind = kind or _kind_of(root)
    return cast("SurveyingModule", find("edgedetr.distill.data", kind)).survey(root)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _kind_of(root: Path) -> str:
    if (root / "training").is_dir():
        return "kitti"
    if (root / "annotations").is_dir() or any(not is_hidden(p) for p in root.glob("*.json")):
        return "coco"
    raise DataError(
        f"{root}: holds no data set; wanted KITTI's training/image_2 and training/label_2, or "
        "COCO's train.json with images in train/ or annotations/instances_train2017.json with "
        "images in train2017/"
    )
