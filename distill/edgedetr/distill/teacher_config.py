"""Settings of a run's teacher: its names of the classes, its input, and where its answers lie."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from edgedetr.distill.config_ranges import MOST_STEPS, check_range, check_sides
from edgedetr.runtime.settings import nearest
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class TeacherInputConfig:
    """The teacher's input, where it is to be another than the teacher was trained with.

    Both models get their input from the same augmented pixels. What is unset is as the teacher's
    checkpoint says.

    Attributes:
        input_hw: Height and width in pixels, multiples of 32.
        resize: How frames get to that size, see `ModelSpec`.
        mean: What each channel (R, G, B) of pixels in [0, 1] loses.
        std: What it is divided by then.
    """

    input_hw: tuple[int, int] | None = None
    resize: Literal["letterbox", "stretch"] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.input_hw:
            check_sides("input_hw", self.input_hw)
        check_normalization(self.mean, self.std)

    def applied(self, spec: ModelSpec) -> ModelSpec:
        """Return a teacher's spec with what is set here."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(spec, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class TeacherCacheConfig:
    """The answers of the teacher on disk, which training reads instead of asking it.

    Attributes:
        path: Their folder; empty asks the teacher at each step.
        views: How many pictures augmentation makes of each image; epochs take them in turn. The
            same ones in every run: runs of other seeds, methods and students read the same answers.
        precision: How features are stored; ``fp32`` takes twice the room.
    """

    path: str = ""
    views: int = 4
    precision: Literal["fp16", "fp32"] = "fp16"

    def __post_init__(self) -> None:
        check_range("teacher_cache.views", self.views, 1, MOST_STEPS)

    @property
    def views_in_use(self) -> int:
        """How many views an image has; 0 without a cache, where each epoch makes a new one."""
        return self.views if self.path else 0


@dataclass(frozen=True)
class TeacherConfig:
    """The teacher of a run, as `DistillConfig` names it.

    Attributes:
        checkpoint: Its file; empty for a run without one.
        class_names: The teacher's names of each class of the data set: it is any of them, and no
            class of the teacher's where there is none.
        input: Its input.
        foundation: The vision backbone whose features are taught; empty for a run without one.
        cache: Where its answers lie on disk.
    """

    checkpoint: str
    class_names: tuple[tuple[str, ...], ...]
    input: TeacherInputConfig = field(default_factory=TeacherInputConfig)
    foundation: str = ""
    cache: TeacherCacheConfig = field(default_factory=TeacherCacheConfig)


def check_normalization(
    mean: tuple[float, float, float] | None, std: tuple[float, float, float] | None
) -> None:
    """Refuse half a normalization, or one that no pixels have; raises ValueError."""
    if (mean is None) != (std is None):
        raise ValueError("mean and std belong together: set both or neither")
    if mean is not None and std is not None:
        ModelSpec(input_hw=(1, 1), class_names=("any",), mean=mean, std=std)


def names_of(class_map: Mapping[str, Any], classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the teacher's names of each class: its own where a class map does not name it."""
    named = (class_map.get(name, name) for name in classes)
    return tuple((found,) if isinstance(found, str) else tuple(found) for found in named)


def check_class_map(class_map: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Refuse a class map of other classes, of no names, or that gives a name twice.

    Raises:
        ValueError: If it is one.
    """
    for name, theirs in class_map.items():
        if name not in classes:
            raise ValueError(
                f"class_map names {name!r}, which is not one of data.classes"
                f"{nearest(name, classes)}"
            )
        if not isinstance(theirs, (str, list, tuple)) or not all(
            isinstance(one, str) and one for one in theirs
        ):
            raise ValueError(f"class_map.{name} must be a name or a list of names, got {theirs!r}")
    if not any(names_of(class_map, classes)):
        raise ValueError("class_map gives the teacher no class, so that it has nothing to teach")
    owners: dict[str, str] = {}
    for name, names in zip(classes, names_of(class_map, classes), strict=True):
        for theirs in names:
            if theirs in owners:
                raise ValueError(
                    f"class_map gives {theirs!r} to {owners[theirs]} and to {name}; a class of the "
                    "teacher's is one class here"
                )
            owners[theirs] = name
