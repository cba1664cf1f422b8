"""No distillation: the student trains on the labels alone. The reference of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from edgedetr.distill.methods import DistillationMethod

if TYPE_CHECKING:
    from torch import Tensor

    from edgedetr.distill.detectors import DetectorModule
    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch

NEEDS_TEACHER = False


@dataclass(frozen=True)
class Settings:
    """Nothing to set."""


class NoDistillation(DistillationMethod):
    """Add no loss."""

    terms = ()

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return no terms."""
        del batch
        return {}


def supports(student: DetectorModule, teacher: DetectorModule) -> bool:
    """Take every pair: there is nothing to compare."""
    del student, teacher
    return True


def build(settings: Settings, student: Model, teacher: Model | None) -> DistillationMethod:
    """Make the empty method."""
    del settings, student, teacher
    return NoDistillation()
