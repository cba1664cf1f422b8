"""Features of a frozen foundation backbone, taught to the top encoder level without a detector.

As RT-DETRv4's deep semantic injector does (Liao et al., 2025): the student's level of stride 32 is
adapted to the width of the backbone's last feature map, which is resampled to its grid, and each
cell is to point the same way. ``share`` of the method's settings holds the term to a share of the
detection loss's gradient, as its gradient-guided modulation does::

    features = mean over cells of (1 - cos(adapter(F_student), F_foundation))

The backbone sees the student's pixels with its own mean and std. Padded cells and cells in ignored
areas do not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from edgedetr.distill.losses.feature_levels import resampled
from edgedetr.distill.losses.foreground_mask import cell_weights
from edgedetr.distill.losses.least_squares import LeastSquares
from edgedetr.distill.methods import DistillationMethod
from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.precision import in_float32
from edgedetr.distill.networks.rescaling import Rescaling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.detectors import DetectorModule
    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch
    from edgedetr.distill.weights.foundation import Foundation

NEEDS_TEACHER = False
NEEDS_FOUNDATION = True

TOP_STRIDE = 32
"""Stride of the level that is taught, or of the one nearest to it."""


@dataclass(frozen=True)
class Settings:
    """Weight of the term.

    Attributes:
        features_weight: Factor of it.
    """

    features_weight: float = 1.0


class FoundationFeatures(DistillationMethod):
    """The term and its adapter."""

    terms = ("features",)

    def __init__(self, settings: Settings, student: Model, foundation: Foundation) -> None:
        super().__init__()
        self.settings = settings
        self.foundation = foundation
        self.adapter = nn.Conv2d(student.width, foundation.width, 1)
        self._rescaled = Rescaling(student.spec, foundation.spec)

    @override
    @torch.no_grad()
    def fit(self, batches: Sequence[Batch]) -> None:
        """Set the adapter to the least squares over the cells of some batches."""
        squares = LeastSquares()
        for batch in batches:
            level, target, counted = self._pair(batch)
            squares.add(level, F.normalize(target, dim=1), counted.to(level.dtype))
        squares.solve(self.adapter)

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted term of one step; the backbone gets no gradient."""
        level, target, counted = self._pair(batch)
        term = direction_loss(self.adapter, level, target, counted)
        return {"features": self.settings.features_weight * term}

    def _pair(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the student's level, the backbone's features on its grid, and what counts."""
        wanted = prod(batch.images.shape[-2:]) / TOP_STRIDE**2
        levels = batch.memory.levels
        off = [abs(math.log(prod(level.shape[-2:]) / wanted)) for level in levels]
        top = off.index(min(off))
        features = self.foundation.encode(self._rescaled(batch.images)).levels[-1].detach()
        weights = cell_weights(batch.targets, batch.memory.masks[top])
        target = resampled(features, None, levels[top].shape[-2:])
        return levels[top], target, (weights[0] + weights[1]) > 0


def supports(student: DetectorModule, teacher: DetectorModule) -> bool:
    """Take every student; no detector teaches it."""
    del student, teacher
    return True


def build(settings: Settings, student: Model, teacher: Foundation) -> DistillationMethod:
    """Make the method for a student and a foundation."""
    return FoundationFeatures(settings, student, teacher)


@in_float32
def direction_loss(adapter: nn.Module, level: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Return the mean over counted cells of 1 - cos(adapter(level), target).

    Args:
        adapter: Maps C to D channels.
        level: The student's (B, C, H, W).
        target: (B, D, H, W), without gradient.
        counted: (B, H, W).
    """
    off = 1 - F.cosine_similarity(adapter(level), target, dim=1)
    return (off * counted).sum() / whole_batch.total(counted.sum()).clamp(min=1)
