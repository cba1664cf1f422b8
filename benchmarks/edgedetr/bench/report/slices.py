"""Accuracy by what an object is like: class, distance, size, occlusion, truncation, light.

The slices of a kind partition the objects. In a slice, a detection of another slice's object is
neutral, one of no object is false, as it is in the total. Where no label has a distance, it is read
off the height of the box: a camera of vehicles sees a pedestrian of 1.7 m at f * 1.7 / height, so
40 px are some 30 m at KITTI's focal length of 721 px.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.bench.report.agreement import MIN_SCORE
from edgedetr.bench.report.intervals import Interval, frame_draws, share_difference
from edgedetr.bench.report.matches import NONE, average_precision

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from edgedetr.bench.report.matches import Matches, Objects

_HEIGHTS = (25, 40, 80)
_AREAS = (32**2, 96**2)
_TRUNCATIONS = (0.15, 0.5)
_DISTANCES = (15, 30, 50)
_BRIGHTNESS = (50, 100, 150)
_OCCLUSIONS = ("visible", "partly occluded", "largely occluded", "unknown")
FALSE_A_FRAME = 0.1
"""False detections a frame at which misses are counted."""


@dataclass(frozen=True)
class Slice:
    """The accuracy of one model on the objects of one kind.

    Attributes:
        kind: What divides the objects: ``class``, ``height``, ``size``, ...
        name: Which of them.
        objects: How many there are.
        ap50: Mean over the classes that have some of AP at IoU 0.5; NaN without an object.
        miss_rate: Share that is not found at the score where all classes together make
            `FALSE_A_FRAME` false detections a frame, in slices of the kind ``class`` this class
            alone; NaN without an object.
        agreement: With the teacher, on the objects that either finds with a score of at least
            `agreement.MIN_SCORE`: twice those that both find over those that each finds; NaN where
            there is no teacher or neither finds one.
        missed_to_teacher: How far the miss rate is from the teacher's; None for the teacher, where
            there is none, and without an object. The scores that both count from are those of all
            frames in each draw.
    """

    kind: str
    name: str
    objects: int
    ap50: float
    miss_rate: float
    agreement: float = float("nan")
    missed_to_teacher: Interval | None = None


def slices(
    objects: Objects,
    matches: Matches,
    class_names: Sequence[str],
    frames: int,
    teacher: Matches | None = None,
) -> list[Slice]:
    """Return a model's accuracy on all objects and on each slice of them.

    Args:
        objects: The labelled objects.
        matches: What the model found of them.
        class_names: The classes, in the order of the labels.
        frames: How many frames there are.
        teacher: What the teacher found of them; None where there is none.
    """
    seen = _at_fixed_false(objects, matches, class_names, frames)
    compares = teacher is not None and teacher is not matches
    base = _at_fixed_false(objects, teacher, class_names, frames) if teacher and compares else None
    draws = np.array(frame_draws(frames), np.float64) if compares else np.zeros((1, frames))
    ours = found_objects(objects, matches, MIN_SCORE)
    theirs = found_objects(objects, teacher, MIN_SCORE) if teacher else np.zeros(len(objects), bool)
    result = []
    for kind, name, members in partitions(objects, class_names):
        count = int(members.sum())
        at = name if kind == "class" else ""
        missed = float(1 - seen[at][members].mean()) if count else float("nan")
        ap50, agreed = _ap50(objects, matches, members), float("nan")
        found = int(ours[members].sum() + theirs[members].sum())
        if teacher and found:
            agreed = 2 * int((ours & theirs)[members].sum()) / found
        change = None
        if base and count:
            pair = ~seen[at][members], ~base[at][members]
            change = share_difference(objects.frame[members], *pair, draws)
        result.append(Slice(kind, name, count, ap50, missed, agreed, change))
    return result


def _at_fixed_false(
    objects: Objects, matches: Matches, class_names: Sequence[str], frames: int
) -> dict[str, NDArray[np.bool_]]:
    """Tell which objects are found at `FALSE_A_FRAME`, of all ("") and of each class."""
    chosen = {"": np.ones(len(matches.label), bool)}
    chosen |= {name: matches.label == label for label, name in enumerate(class_names)}
    return {
        name: found_objects(objects, matches, score_at(matches, frames, FALSE_A_FRAME, rows))
        for name, rows in chosen.items()
    }


def partitions(
    objects: Objects, class_names: Sequence[str]
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield kind, name and members of each slice; those of one kind partition the objects."""
    yield "all", "all", np.ones(len(objects), bool)
    for label, name in enumerate(class_names):
        yield "class", name, objects.label == label
    yield from _bins("height", objects.height, _HEIGHTS, "px")
    yield from _bins("area", objects.area, _AREAS, "px²")
    for level, name in enumerate(_OCCLUSIONS):
        yield "occlusion", name, np.clip(objects.occlusion, 0, 3) == level
    yield from _bins("truncation", objects.truncation, _TRUNCATIONS, "")
    if objects.distance is not None:
        yield from _bins("distance", objects.distance, _DISTANCES, "m")
        yield "distance", "unknown", np.isnan(objects.distance)
    if objects.brightness is not None:
        yield from _bins("brightness", objects.brightness, _BRIGHTNESS, "of 255")


def score_at(
    matches: Matches, frames: int, false_a_frame: float, rows: NDArray[np.bool_] | None = None
) -> float:
    """Return the lowest score at which a model makes at most so many false detections a frame.

    Args:
        matches: What the model found.
        frames: How many frames there are.
        false_a_frame: How many false detections.
        rows: Which detections count, bool (D,); all where None.
    """
    is_false = (matches.found == NONE) & ~matches.is_neutral
    false = np.sort(matches.score[is_false if rows is None else is_false & rows])[::-1]
    allowed = int(false_a_frame * frames)
    return float(np.nextafter(false[allowed], np.inf)) if allowed < len(false) else 0.0


def _bins(
    kind: str, values: NDArray[np.float64], limits: Sequence[float], unit: str
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    place = np.where(np.isnan(values), -1, np.digitize(values, limits))
    unit = f" {unit}" if unit else ""
    yield kind, f"below {limits[0]}{unit}", place == 0
    for index, (low, high) in enumerate(pairwise(limits), 1):
        yield kind, f"{low} to {high}{unit}", place == index
    yield kind, f"from {limits[-1]}{unit}", place == len(limits)


def found_objects(objects: Objects, matches: Matches, min_score: float) -> NDArray[np.bool_]:
    """Tell which objects are found with at least a score, bool (O,)."""
    seen = np.zeros(len(objects), bool)
    seen[matches.found[(matches.found != NONE) & (matches.score >= min_score)]] = True
    return seen


def _ap50(objects: Objects, matches: Matches, members: NDArray[np.bool_]) -> float:
    hits = matches.found != NONE
    inside = np.zeros(len(hits), bool)
    inside[hits] = members[matches.found[hits]]
    counts = np.where(hits, inside, ~matches.is_neutral)
    found = []
    for label in np.unique(objects.label[members]):
        rows = counts & (matches.label == label)
        wanted = int((members & (objects.label == label)).sum())
        found.append(average_precision(matches.score[rows], hits[rows], wanted))
    return float(np.mean(found)) if found else float("nan")
