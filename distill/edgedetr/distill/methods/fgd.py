"""FGD, focal and global knowledge distillation for detectors (Yang et al., CVPR 2022).

The *focal* terms pull each level of the student's memory or pyramid to the teacher's, objects and
background apart, weighted by where and in which channels the teacher's features are large. The
*attention* term pulls the student's own spatial and channel attention to the teacher's. The
*global* term compares the levels after a global context block (GCNet, Cao et al., 2019) on each
side. Per level, with n cells counted, D channels and temperature t (paper, equations 3 to 11)::

    S = n * softmax over cells of (mean over channels of |F| / t)
    C = D * softmax over channels of (mean over cells of |F| / t)
    foreground = alpha * sum_pc M_p S_p C_c (F_student - F_teacher)^2        S, C of the teacher
    background = beta  * the same with the background's M
    attention  = gamma * (sum |S_student - S_teacher| + sum |C_student - C_teacher|)
    global     = lambda * sum_pc (R(F_student) - R(F_teacher))^2

summed over levels, mean over the batch. M are `cell_weights`. Padded cells and cells in ignored
areas count in no term. As in the authors' code both context blocks train; that cannot make the
global term vanish, because a block adds nothing but one number a channel to a level as it is.

Default weights are the authors' for one-stage detectors; theirs for two-stage students are 20 times
smaller for the focal terms and 10 times smaller for the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from edgedetr.distill.losses.feature_levels import LevelPair, PairedLevels
from edgedetr.distill.methods import DistillationMethod
from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.precision import in_float32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.detectors import DetectorModule
    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch

NEEDS_TEACHER = True


@dataclass(frozen=True)
class Settings:
    """Weights and the temperature of FGD.

    Attributes:
        alpha: Weight of objects.
        beta: Weight of the background.
        gamma: Weight of the attention term.
        global_weight: Weight of the global term, the paper's lambda.
        temperature: Softens the attention.
    """

    alpha: float = 1e-3
    beta: float = 5e-4
    gamma: float = 5e-4
    global_weight: float = 5e-6
    temperature: float = 0.5

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")


class Fgd(DistillationMethod):
    """The four terms, with adapters and context blocks for each level."""

    terms = ("foreground", "background", "attention", "global")

    def __init__(self, settings: Settings, student: Model, teacher: Model) -> None:
        super().__init__()
        self.settings = settings
        self.levels = PairedLevels(student, teacher)
        self.student_context, self.teacher_context = (
            nn.ModuleList(ContextBlock(teacher.width) for _ in range(len(self.levels)))
            for _ in range(2)
        )

    @override
    def fit(self, batches: Sequence[Batch]) -> None:
        """Set the adapters of the levels, see `PairedLevels.fit`."""
        self.levels.fit(batches)

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of one step, summed over levels."""
        settings = self.settings
        factors = {
            "foreground": settings.alpha,
            "background": settings.beta,
            "attention": settings.gamma,
            "global": settings.global_weight,
        }
        levels: tuple[LevelPair, ...] = self.levels(batch)
        total = {name: batch.images.new_zeros(()) for name in self.terms}
        blocks = zip(levels, self.student_context, self.teacher_context, strict=True)
        for pair, mine, theirs in blocks:
            found = focal_terms(pair, settings.temperature)
            found["global"] = global_term(pair, mine, theirs)
            for name, factor in factors.items():
                total[name] = total[name] + factor * found[name]
        return total


def supports(student: DetectorModule, teacher: DetectorModule) -> bool:
    """Take every pair of families: all have levels."""
    del student, teacher
    return True


def build(settings: Settings, student: Model, teacher: Model) -> DistillationMethod:
    """Make the method for a pair of models."""
    return Fgd(settings, student, teacher)


class ContextBlock(nn.Module):
    """Adds the context of the whole level to every cell (GCNet); adds nothing at first.

    Args:
        width: Channels D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(width, 1, 1)
        hidden = max(1, width // 2)
        last = nn.Linear(hidden, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.transform = nn.Sequential(
            nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU(), last
        )

    @override
    def forward(self, level: Tensor, counted: Tensor) -> Tensor:
        """Return (B, D, H, W); context comes from the counted cells (B, H, W) alone."""
        weights = cell_softmax(self.attention(level)[:, 0], counted)
        context = (weights[:, None] * level).sum((2, 3))
        added: Tensor = self.transform(context)
        return level + added[..., None, None]


@in_float32
def focal_terms(pair: LevelPair, temperature: float) -> dict[str, Tensor]:
    """Return the unweighted ``foreground``, ``background`` and ``attention`` of one level."""
    (own_cells, own_channels), (cells, channels) = (
        attention(x, pair.counted, temperature) for x in (pair.student, pair.teacher)
    )
    difference = (pair.student - pair.teacher).square()
    by_cell = cells * (channels[..., None, None] * difference).sum(1)
    apart = (own_cells - cells).abs().sum((1, 2)) + (own_channels - channels).abs().sum(1)
    return {
        "foreground": whole_batch.mean((pair.foreground * by_cell).sum((1, 2))),
        "background": whole_batch.mean((pair.background * by_cell).sum((1, 2))),
        "attention": whole_batch.mean(apart),
    }


@in_float32
def global_term(pair: LevelPair, student: nn.Module, teacher: nn.Module) -> Tensor:
    """Return the unweighted squared difference of one level after the context blocks."""
    counted = pair.counted
    difference = student(pair.student, counted) - teacher(pair.teacher, counted)
    return whole_batch.mean((counted * difference.square().sum(1)).sum((1, 2)))


def attention(level: Tensor, counted: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the attention of a level (B, D, H, W) over cells and over channels.

    Returns:
        (B, H, W), which adds up to the number of counted cells and is 0 in the others, and (B, D),
        which adds up to D.
    """
    size = level.abs()
    count = counted.sum((1, 2))
    cells = cell_softmax(size.mean(1) / temperature, counted) * count[:, None, None]
    mean = (size * counted[:, None]).sum((2, 3)) / count.clamp(min=1)[:, None]
    channels = F.softmax(mean / temperature, dim=1) * level.shape[1]
    return cells, channels


def cell_softmax(scores: Tensor, counted: Tensor) -> Tensor:
    """Return the softmax of (B, H, W) over the counted cells; 0 in the others."""
    low = torch.finfo(scores.dtype).min
    weights = F.softmax(scores.masked_fill(~counted, low).flatten(1), dim=1).view_as(scores)
    return weights * counted
