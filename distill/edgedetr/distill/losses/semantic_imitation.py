"""Imitation of a teacher's region features from all levels of a student at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from edgedetr.distill.losses.region_pooling import region_features
from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.precision import in_float32

if TYPE_CHECKING:
    from collections.abc import Sequence

LOWEST_TAU = 0.01
"""What the trained temperature stays above."""


class SemanticImitation(nn.Module):
    """Semantic-guided feature imitation (Yao et al., ICCV 2021, section 3.2).

    A region is pooled from every level of the student. A level weighs the more, the more alike its
    feature and the teacher's are, in an embedding trained for both::

        a_l   = softmax over levels of (embed(s_l) . embed(t) / tau)
        loss  = mean square of (sum_l a_l s_l - t)

    A 1x1 convolution, the same at every level, adapts the student; as it commutes with pooling it
    comes first, where there are fewer cells. Levels are pooled half a cell off, as torchvision's
    heads pool the teacher's (see `region_features`). A bin takes one point: each region is pooled
    from levels where its bins are smaller than a cell, too, and the cost is in the points.

    Args:
        width: Channels of the student's levels.
        target_width: Channels of the teacher's region features.
    """

    def __init__(self, width: int, target_width: int) -> None:
        super().__init__()
        half, quarter = max(1, target_width // 2), max(1, target_width // 4)
        self.adapter = nn.Conv2d(width, target_width, 1)
        self.embed = nn.Sequential(  # 7x7 to 3x3 to 1x1
            nn.Conv2d(target_width, half, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(half, quarter, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        # of one dimension: FSDP takes none of no dimension
        self.raw_tau = nn.Parameter(torch.tensor([1 - LOWEST_TAU]).expm1().log())

    @property
    def tau(self) -> Tensor:
        """Temperature of the softmax: trained, positive, 1 at first."""
        return F.softplus(self.raw_tau[0]) + LOWEST_TAU

    @override
    @in_float32
    def forward(self, levels: Sequence[Tensor], boxes: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            levels: The student's, (B, width, H, W) each.
            boxes: The regions, xyxy in [0, 1], (n, 4) an image.
            target: The teacher's features of them (N, target_width, 7, 7); get no gradient.
        """
        target = target.detach()
        size = target.shape[-1]
        pooled = torch.stack(
            [
                region_features(self.adapter(x), boxes, size, samples=1, aligned=False)
                for x in levels
            ]
        )
        weights = self.level_weights(pooled, target)
        gathered = torch.einsum("ln,lndhw->ndhw", weights, pooled)
        return (gathered - target).square().sum() / max(1, whole_batch.count(target.numel()))

    def of_all_levels(self, levels: Sequence[Tensor], boxes: Sequence[Tensor], size: int) -> Tensor:
        """Return the mean over levels of what regions have in them, not adapted, (N, width, s, s).

        That is what is adapted to the teacher's while all levels count alike.
        """
        pooled = [region_features(x, boxes, size, samples=1, aligned=False) for x in levels]
        return torch.stack(pooled).mean(0)

    def level_weights(self, pooled: Tensor, target: Tensor) -> Tensor:
        """Return how much each level counts for each region, (L, N); 1 over the levels."""
        keys = self.embed(pooled.flatten(0, 1)).unflatten(0, pooled.shape[:2])
        likeness = (keys * self.embed(target)).sum(-1)
        return F.softmax(likeness / self.tau, dim=0)
