"""CLoCKDistill (Lan and Tian, WACV 2026): memory distillation and target-aware queries.

Two losses. *LCMD*, location-and-context-aware memory distillation, pulls the student's encoder
output to the teacher's, cell by cell, with the cells of ground-truth boxes weighted up. *TCLD*,
target-aware consistent logit distillation, builds queries from the ground truth, decodes them with
both models and pulls the student's outputs to the teacher's. The teacher's own queries and random
ones can be added.

The defaults are those that work on small sigmoid-headed detectors: with them the memory loss starts
at a twentieth of the detection loss, where the paper's weights of it leave it without effect. The
paper's literal choices are ``memory_norm="none"``, ``alpha=5e-5``, ``beta=1e-7``,
``class_loss="softmax_kl"``, ``class_norm="sum"``, ``temperature=10``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from typing_extensions import override

from edgedetr.distill.detectors import decodes_queries
from edgedetr.distill.losses.decoder_losses import (
    DECODER_TERMS,
    DecoderLossSettings,
    check_pair,
    decoder_losses,
)
from edgedetr.distill.losses.distillation_points import (
    Noise,
    SharedQueries,
    random_queries,
    shared_outputs,
    target_queries,
    teacher_queries,
)
from edgedetr.distill.losses.feature_levels import PairedLevels
from edgedetr.distill.losses.foreground_mask import standardised
from edgedetr.distill.methods import DistillationMethod
from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.precision import in_float32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.detectors import DetectorModule
    from edgedetr.distill.losses.feature_levels import LevelPair
    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch, Memory

NEEDS_TEACHER = True


@dataclass(frozen=True)
class Settings(DecoderLossSettings):
    """Weights and choices of CLoCKDistill.

    Attributes:
        lcmd_weight: Factor of the memory loss.
        alpha: Weight of a squared difference inside boxes, summed over channels.
        beta: The same on the background.
        memory_norm: ``channel`` standardises each channel over the cells of a level first, for
            memories that no LayerNorm bounds (RT-DETR, D-FINE); ``none`` is the paper's.
        tcld_weight: Factor of the logit loss.
        groups: Copies of the targets, each with its own noise; groups do not see one another.
        label_noise: Probability of another class in a query's content.
        box_noise: Noise on a query's box, as a share of its half size.
        teacher_queries: Whether the teacher's own queries are points too.
        random_queries: How many random queries of an image are points too.
    """

    lcmd_weight: float = 1.0
    alpha: float = 1.5e-3
    beta: float = 3e-6
    memory_norm: Literal["channel", "none"] = "channel"
    tcld_weight: float = 1.0
    groups: int = 1
    label_noise: float = 0.0
    box_noise: float = 0.0
    teacher_queries: bool = False
    random_queries: int = 0

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups < 1:
            raise ValueError(f"groups must be at least 1, got {self.groups}")
        if self.random_queries < 0:
            raise ValueError(f"random_queries must be at least 0, got {self.random_queries}")


class Clock(DistillationMethod):
    """The two losses and the adapters between memories of different width."""

    terms = ("lcmd", *(f"tcld_{name}" for name in DECODER_TERMS))

    def __init__(self, settings: Settings, student: Model, teacher: Model) -> None:
        super().__init__()
        self.settings = settings
        self.student = student
        self.teacher = teacher
        self.levels = PairedLevels(student, teacher)

    @override
    def fit(self, batches: Sequence[Batch[Memory, Memory]]) -> None:
        """Set the adapters of the levels, see `PairedLevels.fit`."""
        self.levels.fit(batches)

    @override
    def forward(self, batch: Batch[Memory, Memory]) -> dict[str, Tensor]:
        """Return the weighted terms of one step; the teacher decodes without gradient."""
        settings = self.settings
        terms = {name: batch.images.new_zeros(()) for name in self.terms}
        terms["lcmd"] = settings.lcmd_weight * lcmd(self.levels(batch), settings)
        for outputs in shared_outputs(self._points(batch), self.student, self.teacher, batch):
            losses = decoder_losses(outputs.student, outputs.teacher, outputs.counts, settings)
            for name, value in losses.items():
                terms[f"tcld_{name}"] = terms[f"tcld_{name}"] + settings.tcld_weight * value
        return terms

    def _points(self, batch: Batch[Memory, Memory]) -> list[SharedQueries]:
        """Build the sets of queries; the loss of each is a mean of its own."""
        settings = self.settings
        noise = Noise(self.student.num_classes, settings.label_noise, settings.box_noise)
        sets = [target_queries(batch.targets, settings.groups, noise)]
        if settings.teacher_queries:
            sets.append(teacher_queries(batch.teacher_memory))
        if settings.random_queries:
            sets.append(
                random_queries(batch.teacher_memory, batch.targets, settings.random_queries)
            )
        return sets


def supports(student: DetectorModule, teacher: DetectorModule) -> bool:
    """Tell whether the method takes a pair of families: both decode external queries."""
    return decodes_queries(student) and decodes_queries(teacher)


def build(settings: Settings, student: Model, teacher: Model) -> DistillationMethod:
    """Make the method for a pair of models."""
    check_pair(settings, student, teacher)
    return Clock(settings, student, teacher)


@in_float32
def lcmd(levels: Sequence[LevelPair], settings: Settings) -> Tensor:
    """Return the location-and-context-aware memory loss (paper, section 3.1).

    ``sum over levels of (alpha * sum_p F_p |dA_p|^2 + beta * sum_p G_p |dA_p|^2)``, mean over the
    batch, where F gives each box a mass of 1 and G the background a mass of 1 (`cell_weights`).

    Args:
        levels: What both memories have in common; the teacher's gets no gradient.
        settings: ``alpha``, ``beta``, ``memory_norm``.
    """
    losses = []
    for pair in levels:
        mine, theirs = pair.student, pair.teacher
        if settings.memory_norm == "channel":
            counted = pair.counted[:, None]
            mine, theirs = standardised(mine, counted), standardised(theirs, counted)
        weights = settings.alpha * pair.foreground + settings.beta * pair.background
        by_image = (weights * (mine - theirs).square().sum(1)).sum((1, 2))
        losses.append(whole_batch.mean(by_image))
    return torch.stack(losses).sum()
