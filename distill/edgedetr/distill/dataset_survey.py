"""What a data set holds and what is wrong with it: every problem, not only the first."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from edgedetr.distill.dataset_format import FORMATS, recognised
from edgedetr.distill.labels.frames import LabelSet, checked
from edgedetr.distill.labels.shard_files import is_folder
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

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

    def as_dict(self) -> dict[str, object]:
        """Return it as it is written to JSON."""
        return {
            "frames": self.frames,
            "empty": self.empty,
            "objects": dict(sorted(self.classes.items())),
            "difficulty": {level: self.difficulty[level] for level in DIFFICULTIES},
            "problems": self.problems,
            "notes": self.notes,
        }

    def problems_by_kind(self) -> list[tuple[str, list[str]]]:
        """Group the problems that differ in names and numbers alone, the most frequent first."""
        kinds: dict[str, list[str]] = {}
        for problem in self.problems:
            kinds.setdefault(_kind(problem), []).append(problem)
        return sorted(kinds.items(), key=lambda pair: -len(pair[1]))


def _kind(problem: str) -> str:
    """Strike out the paths, quotations and numbers of a problem.

    >>> _kind("/data/a.txt:7: found 8 columns, wanted 15")
    '...: found # columns, wanted #'
    >>> _kind("/data/a.json: annotations[3] (id 7): bbox [1, 2]: 'x', wanted numbers")
    '...: bbox ...: ..., wanted numbers'
    """
    text = _ENTRY.sub("", _QUOTED.sub("...", _PATH.sub("...", problem)))
    return _DIGITS.sub("#", text)


_PATH = re.compile(r"(?:\S*/)\S*?(?=[,:;)]?(?:\s|$))")
_QUOTED = re.compile(r"'[^']*'|\[[^\]]*[, ][^\]]*\]")
_ENTRY = re.compile(r"(?<=: )\w+\[\d+\](?: \(id [^)]*\))?: |: box \d+ \([^)]*\)(?= )")
_DIGITS = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


class Surveying(Protocol):
    """The function ``survey`` of a format."""

    def __call__(self, root: Path, *, decode: bool = False) -> Survey:
        """Check every label and image below a folder."""
        ...


class SurveyingModule(Protocol):
    """What a file of ``edgedetr.distill.data`` defines beside ``open_dataset``."""

    survey: Surveying


def survey(
    root: str | os.PathLike[str], kind: str | None = None, *, decode: bool = False
) -> Survey:
    """Check every label of a data set, and the header of every image.

    Args:
        root: The data set's folder.
        kind: A file of ``edgedetr.distill.data``; None to recognise it by the folder.
        decode: Whether to read every image whole.

    Raises:
        DataError: If the folder is missing or holds no data set of that format.
    """
    root = Path(root)
    if not is_folder(root):
        raise DataError(f"{root}: no such folder; wanted a data set")
    module = cast("SurveyingModule", find(FORMATS, recognised(root, kind)))
    return module.survey(root, decode=decode)


def surveyor(read: Callable[[Path, str], LabelSet]) -> Surveying:
    """Make the ``survey`` of a format that checks the labels of all its splits, of its ``read``."""

    def survey(root: Path, *, decode: bool = False) -> Survey:
        return survey_labels(read(root, "all"), decode=decode)

    return survey


def survey_labels(labels: LabelSet, *, decode: bool = False) -> Survey:
    """Check labels that were read, and the images beside them."""
    found = Survey(problems=list(labels.problems))
    for frame in checked(labels, decode=decode):
        if isinstance(frame, list):
            found.problems += frame
        else:
            found.add([o.name for o in frame.objects if not o.is_ignored], [])
    found.notes += labels.notes
    return found


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)
