"""CLoCKDistill (Lan and Tian, WACV 2026): memory distillation and target-aware queries.

Two losses. *LCMD*, location-and-context-aware memory distillation, pulls the student's encoder
output to the teacher's, cell by cell, with the cells of ground-truth boxes weighted up. *TCLD*,
target-aware consistent logit distillation, builds queries from the ground truth, asks both decoders
the same and pulls the student's answers to the teacher's.

The defaults are those that work on small sigmoid-headed detectors; the paper's literal choices are
``memory_norm="none"``, ``class_loss="softmax_kl"``, ``class_norm="sum"``, ``temperature=10``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from edgedetr.distill.cell_weights import cell_weights, standardised
from edgedetr.distill.detectors import answers_queries
from edgedetr.distill.methods import DistillationMethod
from edgedetr.distill.query_losses import ClassLoss, query_losses
from edgedetr.distill.target_queries import Noise, TargetQueries, target_queries
from edgedetr.runtime.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.detectors import DetectorModule, DetrOutputs, Memory, Targets
    from edgedetr.distill.methods import Batch
    from edgedetr.distill.model import Model

NEEDS_TEACHER = True


@dataclass(frozen=True)
class Settings:
    """Weights and choices of CLoCKDistill.

    Attributes:
        lcmd_weight: Factor of the memory loss.
        alpha: Weight of a squared difference inside boxes, summed over channels.
        beta: The same on the background.
        memory_norm: ``channel`` standardises each channel over the cells of a level first, for
            memories that no LayerNorm bounds (RT-DETR, D-FINE); ``none`` is the paper's.
        tcld_weight: Factor of the logit loss.
        class_weight: Factor of its class term.
        l1_weight: Factor of its L1 term.
        giou_weight: Factor of its GIoU term.
        class_loss: ``bernoulli_kl`` also distils how sure a sigmoid head is; ``softmax_kl`` is the
            paper's and blind to a constant added to all logits.
        class_norm: ``weights`` divides by the summed query weights; ``sum`` is the paper's.
        temperature: Softens both class distributions.
        layers: ``paired`` pairs decoder layers one to one where both have as many, else and with
            ``final`` the teacher's last layer teaches every layer.
        query_weight: ``teacher_score`` weights a query by the teacher's confidence; ``one`` does
            not.
        groups: Copies of the targets, each with its own noise; groups do not see one another.
        label_noise: Probability of another class in a query's content.
        box_noise: Noise on a query's box, as a share of its half size.
    """

    lcmd_weight: float = 1.0
    alpha: float = 5e-5
    beta: float = 1e-7
    memory_norm: Literal["channel", "none"] = "channel"
    tcld_weight: float = 1.0
    class_weight: float = 1.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    class_loss: Literal["bernoulli_kl", "softmax_kl"] = "bernoulli_kl"
    class_norm: Literal["weights", "sum"] = "weights"
    temperature: float = 1.0
    layers: Literal["paired", "final"] = "paired"
    query_weight: Literal["teacher_score", "one"] = "teacher_score"
    groups: int = 1
    label_noise: float = 0.0
    box_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError(f"groups must be at least 1, got {self.groups}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")


class Clock(DistillationMethod):
    """The two losses and the adapter between memories of different width."""

    terms = ("lcmd", "tcld_class", "tcld_l1", "tcld_giou")

    def __init__(self, settings: Settings, student: Model, teacher: Model) -> None:
        super().__init__()
        self.settings = settings
        self.student = student
        self.teacher = teacher
        own, taught = student.width, teacher.width
        self.adapter: nn.Module = nn.Identity() if own == taught else nn.Linear(own, taught)

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of one step; the teacher answers without gradient."""
        settings, teacher_memory = self.settings, batch.teacher_memory
        memory_loss = lcmd(
            self.adapter(batch.memory.tokens), batch.memory, teacher_memory, batch.targets, settings
        )
        terms = {"lcmd": settings.lcmd_weight * memory_loss}
        noise = Noise(self.student.num_classes, settings.label_noise, settings.box_noise)
        targets = target_queries(batch.targets, settings.groups, noise)
        with torch.no_grad():
            taught = self._answers(self.teacher, teacher_memory, targets)
        learnt = self._answers(self.student, batch.memory, targets)
        return terms | {
            f"tcld_{k}": settings.tcld_weight * v
            for k, v in tcld(learnt, taught, targets.valid, settings).items()
        }

    def _answers(self, asked: Model, memory: Memory, targets: TargetQueries) -> DetrOutputs:
        """Ask one decoder the target queries, with the teacher's label table where it fits."""
        fits = asked.family == self.teacher.family and asked.width == self.teacher.width
        table = self.teacher if fits else asked
        content = table.label_content(targets.labels, targets.boxes)
        return asked.decode(memory, targets.with_content(content))


def supports(student: DetectorModule, teacher: DetectorModule) -> bool:
    """Tell whether the method takes a pair of families: both answer external queries."""
    return answers_queries(student) and answers_queries(teacher)


def build(settings: Settings, student: Model, teacher: Model) -> DistillationMethod:
    """Make the method for a pair of models."""
    if settings.class_loss == "softmax_kl" and student.num_classes == 1:
        raise SettingsError(
            "class_loss = 'softmax_kl' is zero with a single class, whatever the student says; "
            "use 'bernoulli_kl'"
        )
    return Clock(settings, student, teacher)


def lcmd(
    tokens: Tensor,
    student: Memory,
    teacher: Memory,
    targets: Sequence[Targets],
    settings: Settings,
) -> Tensor:
    """Return the location-and-context-aware memory loss (paper, section 3.1).

    ``sum over levels of (alpha * sum_p F_p |dA_p|^2 + beta * sum_p G_p |dA_p|^2)``, mean over the
    batch, where F gives each box a mass of 1 and G the background a mass of 1 (`cell_weights`).

    Args:
        tokens: The student's adapted memory (B, P, D of the teacher).
        student: The student's memory, for its grid.
        teacher: The teacher's memory; gets no gradient. Where grids differ, the student's is
            resized to the teacher's (bilinear).
        targets: Truth and ignored areas of each image.
        settings: ``alpha``, ``beta``, ``memory_norm``.
    """
    if len(student.spatial_shapes) != len(teacher.spatial_shapes):
        raise SettingsError(
            f"the student's memory has {len(student.spatial_shapes)} levels, the teacher's "
            f"{len(teacher.spatial_shapes)}; choose presets with as many"
        )
    total = tokens.new_zeros(())
    adapted = replace(student, tokens=tokens)
    for mine, theirs, mask in zip(adapted.levels, teacher.levels, teacher.masks, strict=True):
        theirs = theirs.detach()  # noqa: PLW2901
        hw = (theirs.shape[-2], theirs.shape[-1])
        if mine.shape[-2:] != theirs.shape[-2:]:
            mine = F.interpolate(mine, hw, mode="bilinear", align_corners=False)  # noqa: PLW2901
        if settings.memory_norm == "channel":
            mine, theirs = (standardised(x, mask[:, None]) for x in (mine, theirs))  # noqa: PLW2901
        foreground, background = cell_weights(targets, mask)
        weights = settings.alpha * foreground + settings.beta * background
        total = total + (weights * (mine - theirs).square().sum(1)).sum((1, 2)).mean()
    return total


def tcld(
    student: DetrOutputs, teacher: DetrOutputs, valid: Tensor, settings: Settings
) -> dict[str, Tensor]:
    """Return the target-aware consistent logit loss, term by term (paper, section 3.2).

    Args:
        student: Answers (E, B, Q, ...) to the target queries.
        teacher: The teacher's answers to the same; get no gradient.
        valid: False in slots that only fill up the batch, (B, Q).
        settings: Weights, class loss, pairing of layers and weighting of queries.

    Returns:
        ``class``, ``l1`` and ``giou``, weighted, summed over the student's layers.
    """
    depth = len(student.logits)
    paired = settings.layers == "paired" and depth == len(teacher.logits)
    class_loss = ClassLoss(settings.class_loss, settings.class_norm, settings.temperature)
    factors = {
        "class": settings.class_weight,
        "l1": settings.l1_weight,
        "giou": settings.giou_weight,
    }
    total = {name: student.logits.new_zeros(()) for name in factors}
    for layer in range(depth):
        logits, boxes = (
            x[layer if paired else -1].detach() for x in (teacher.logits, teacher.boxes)
        )
        weights = valid.to(logits.dtype)
        if settings.query_weight == "teacher_score":
            weights = weights * logits.sigmoid().amax(-1)
        terms = query_losses(
            student.logits[layer], student.boxes[layer], logits, boxes, weights, class_loss
        )
        for name, factor in factors.items():
            total[name] = total[name] + factor * terms[name]
    return total
