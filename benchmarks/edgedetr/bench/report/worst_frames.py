"""The frames on which a student does worst: how many objects it misses, how much it invents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.bench.report.matches import NONE
from edgedetr.bench.report.slices import FALSE_A_FRAME, found_objects, score_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.bench.report.matches import Matches, Objects

MOST_FRAMES = 6


@dataclass(frozen=True, eq=False)
class FrameErrors:
    """The errors of a model in each frame, where it makes so many false detections in all.

    Attributes:
        score: Detections of at least that score count, see `slices.FALSE_A_FRAME`.
        missed: Objects that are not found, int64 (F,).
        false: Detections of nothing, neutral ones left out, int64 (F,).
    """

    score: float
    missed: NDArray[np.int64]
    false: NDArray[np.int64]

    @property
    def total(self) -> NDArray[np.int64]:
        """Errors of both kinds, int64 (F,)."""
        return self.missed + self.false


@dataclass(frozen=True)
class WorstFrame:
    """One frame.

    Attributes:
        index: Its place in the split.
        frame: Its name.
        missed: Objects that each model misses, by name of the model.
        false: Detections of nothing that each makes.
    """

    index: int
    frame: str
    missed: dict[str, int]
    false: dict[str, int]


def frame_errors(objects: Objects, matches: Matches, frames: int) -> FrameErrors:
    """Count a model's errors frame by frame."""
    limit = score_at(matches, frames, FALSE_A_FRAME)
    sure = matches.score >= limit
    seen = found_objects(objects, matches, limit)
    wrong = sure & (matches.found == NONE) & ~matches.is_neutral
    return FrameErrors(
        score=limit,
        missed=np.bincount(objects.frame[~seen], minlength=frames),
        false=np.bincount(matches.frame[wrong], minlength=frames),
    )


def worst_frames(
    errors: dict[str, FrameErrors], student: str, names: Sequence[str]
) -> tuple[WorstFrame, ...]:
    """Return the frames with most errors of a student, the worst first; none without an error.

    Args:
        errors: Of each model, by its name.
        student: Whose errors count.
        names: Of the frames.
    """
    total = errors[student].total
    order = np.argsort(-total, kind="stable")[:MOST_FRAMES]
    return tuple(
        WorstFrame(
            index,
            names[index],
            {name: int(part.missed[index]) for name, part in errors.items()},
            {name: int(part.false[index]) for name, part in errors.items()},
        )
        for index in order.tolist()
        if total[index]
    )
