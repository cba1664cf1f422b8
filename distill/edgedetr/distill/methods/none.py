"""No distillation: the student learns from the labels alone. The reference of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn
from typing_extensions import override

if TYPE_CHECKING:
    from torch import Tensor

    from edgedetr.distill.methods import Batch
    from edgedetr.distill.model import Model

NEEDS_TEACHER = False


@dataclass(frozen=True)
class Settings:
    """Nothing to set."""


class NoDistillation(nn.Module):
    """Add no loss."""

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return no terms."""
        del batch
        return {}


def build(settings: Settings, student: Model, teacher: Model | None) -> nn.Module:
    """Make the empty method."""
    del settings, student, teacher
    return NoDistillation()
