"""Distillation methods, one file each.

A method's file has ``Settings``, a frozen dataclass that the ``[method]`` table of a config fills,
and ``build(settings, student, teacher) -> Method``. The method's own parameters (adapters) train
with the student and are left behind when the student is saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from edgedetr.distill.detectors import Memory, Targets
    from edgedetr.distill.model import Model


@dataclass(frozen=True, eq=False)
class Batch:
    """What a method sees of one training step.

    Attributes:
        images: Network input (B, 3, H, W), the same for student and teacher.
        targets: The truth of each image.
        memory: The student's memory of these images, with gradient.
        teacher_memory: The teacher's, without; None for methods that need no teacher.
    """

    images: Tensor
    targets: Sequence[Targets]
    memory: Memory
    teacher_memory: Memory | None = None


class MethodModule(Protocol):
    """What a file in this folder must define.

    Attributes:
        Settings: Frozen dataclass of the method's settings.
        NEEDS_TEACHER: Whether the method works without a teacher.
    """

    Settings: type[Any]
    NEEDS_TEACHER: bool

    def build(self, settings: Any, student: Model, teacher: Model | None) -> nn.Module:  # noqa: ANN401
        """Make the method; its ``forward(batch) -> dict[str, Tensor]`` gives weighted losses."""
        ...


def method(name: str) -> MethodModule:
    """Return the module of a distillation method."""
    return cast("MethodModule", find(__name__, name))
