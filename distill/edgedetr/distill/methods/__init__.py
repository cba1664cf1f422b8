"""Distillation methods, one file each.

A method's file has ``Settings``, a frozen dataclass that the ``[method.<name>]`` table of a config
fills, ``supports(student, teacher)``, which tells whether it takes a pair of families, and
``build(settings, student, teacher)``. The method's own parameters (adapters) train with the student
and are left behind when the student is saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from torch import nn

from edgedetr.distill.detectors import detector
from edgedetr.runtime.plugins import find, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgedetr.distill.detectors import DetectorModule
    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch


class DistillationMethod(nn.Module):
    """A method at work; ``forward(batch: Batch) -> dict[str, Tensor]`` gives its weighted losses.

    Attributes:
        terms: The names of the losses, always all of them.
    """

    terms: tuple[str, ...]

    def fit(self, batches: Sequence[Batch[Any, Any]]) -> None:
        """Set adapters to what maps the student's features of some batches to the teacher's best.

        A method that has no adapters leaves it at that.
        """


class MethodModule(Protocol):
    """What a file in this folder must define.

    Attributes:
        Settings: Frozen dataclass of the method's settings.
        NEEDS_TEACHER: Whether the method needs a teacher; one that does not is given None, or, with
            a true ``NEEDS_FOUNDATION``, the foundation of the run.
    """

    Settings: type[object]
    NEEDS_TEACHER: bool

    def supports(self, student: DetectorModule, teacher: DetectorModule) -> bool:
        """Tell whether the method takes a pair of families."""
        ...

    def build(self, settings: object, student: Model, teacher: object) -> DistillationMethod:
        """Make the method for a pair that it supports."""
        ...


def method(name: str) -> MethodModule:
    """Return the module of a distillation method."""
    return cast("MethodModule", find(__name__, name))


def needs_foundation(names: Iterable[str]) -> bool:
    """Tell whether one of some methods learns from a foundation instead of a teacher."""
    return any(getattr(method(name), "NEEDS_FOUNDATION", False) for name in names)


def supported_pairs(name: str) -> list[tuple[str, str]]:
    """List the pairs (student, teacher) of families that a method takes."""
    families = names("edgedetr.distill.detectors")
    taken = method(name).supports
    return [(s, t) for s in families for t in families if taken(detector(s), detector(t))]
