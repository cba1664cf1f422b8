"""KD-DETR (Wang et al., CVPR 2024): teacher and student decode the same distillation points.

*Specific* points are the teacher's own queries and cover what it attends to; *general* points are
random, new at every step, half of them near objects, half all over the image (`random_queries`).
Each model gets its own content for a point. The teacher's last layer teaches every layer of the
student's decoder. Most points are background, so each weighs as much as the teacher is sure of an
object there (the paper's foreground rebalance weight, ``max_c sigmoid(z_c)``). There is no loss on
features and nothing to train besides the student.

The defaults are those that work on small sigmoid-headed detectors; the literal choices of the
paper's code are ``class_loss="softmax_kl"``, ``class_norm="sum"``, ``temperature=10``,
``general_boxes="gaussian"``, ``point_share=1``.

A two-stage student decodes no queries. There its own proposals become the teacher's queries, of no
class, and its head classifies the same boxes. See `ProposalKdDetr` for how the two are compared.
A dense student (FCOS, RetinaNet) has neither: there the boxes of its best anchors, without
duplicates, become the teacher's queries. See `CellKdDetr`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert, nms
from typing_extensions import override

from edgedetr.distill.class_map import only_known
from edgedetr.distill.detectors import classifies_regions, decodes_queries, is_dense
from edgedetr.distill.losses.decoder_losses import (
    DECODER_TERMS,
    DecoderLossSettings,
    check_pair,
    decoder_losses,
    query_weights,
)
from edgedetr.distill.losses.distillation_points import (
    MIN_SIZE,
    RandomBoxes,
    SharedQueries,
    outside_ignored,
    random_queries,
    shared_outputs,
    teacher_queries,
)
from edgedetr.distill.losses.logit_losses import (
    ClassLoss,
    box_losses,
    exclusive_divergence,
    query_losses,
    weighted,
)
from edgedetr.distill.methods import DistillationMethod
from edgedetr.distill.networks.precision import in_float32
from edgedetr.runtime.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.detectors import DetectorModule
    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch, Memory, Pyramid, RegionOutputs

NEEDS_TEACHER = True

PROPOSALS = 300
"""The most proposals of an image that the teacher decodes."""

OVERLAP = 0.7
"""IoU above which the better of a dense student's boxes keeps the other out, as with proposals."""


@dataclass(frozen=True)
class Settings(DecoderLossSettings):
    """Weights and choices of KD-DETR.

    Attributes:
        specific_weight: Factor of the losses at the teacher's queries; at 0 there are none.
        general_weight: Factor of the losses at random queries; at 0 there are none.
        point_share: How many points of each kind a step has, as a share of the number of the
            teacher's queries. The paper's 1 takes all of them; less draws some at each step, which
            makes a step cheaper: what the decoders add to one is proportional to it.
        general_boxes: How random queries are drawn, see `random_queries`.
    """

    layers: Literal["paired", "final"] = "final"
    specific_weight: float = 1.0
    general_weight: float = 1.0
    point_share: float = 0.35
    general_boxes: RandomBoxes = "mixed"

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.point_share <= 1:
            raise ValueError(f"point_share must lie in (0, 1], got {self.point_share}")


class KdDetr(DistillationMethod):
    """The losses at specific and at general points, between two query detectors."""

    terms = tuple(
        f"{points}_{name}" for points in ("specific", "general") for name in DECODER_TERMS
    )

    def __init__(self, settings: Settings, student: Model, teacher: Model) -> None:
        super().__init__()
        self.settings = settings
        self.student = student
        self.teacher = teacher

    @override
    def forward(self, batch: Batch[Memory, Memory]) -> dict[str, Tensor]:
        """Return the weighted terms of one step; the teacher decodes without gradient."""
        settings = self.settings
        factors = {"specific": settings.specific_weight, "general": settings.general_weight}
        points = {name: self._points(name, batch) for name, factor in factors.items() if factor > 0}
        outputs = shared_outputs([*points.values()], self.student, self.teacher, batch)
        terms = {name: batch.memory.tokens.new_zeros(()) for name in self.terms}
        for name, output in zip(points, outputs, strict=True):
            losses = decoder_losses(output.student, output.teacher, output.counts, settings)
            terms |= {f"{name}_{k}": factors[name] * v for k, v in losses.items()}
        return terms

    def _points(self, name: str, batch: Batch[Memory, Memory]) -> SharedQueries:
        settings, memory = self.settings, batch.teacher_memory
        count = max(1, round(settings.point_share * memory.own.boxes.shape[1]))
        if name == "specific":
            return teacher_queries(memory, count)
        return random_queries(memory, batch.targets, count, settings.general_boxes)


class ProposalKdDetr(DistillationMethod):
    """The losses at a two-stage student's proposals, against a query detector's outputs.

    The teacher's classes are independent sigmoids and know no background, the student's are a
    softmax with background: the class term is `exclusive_divergence`. The boxes that are compared
    are the teacher's and the one that the student's head gives for the teacher's best class. Points
    weigh as in `KdDetr`; no gradient reaches the proposals.
    """

    terms = ("proposal_class", "proposal_l1", "proposal_giou")

    def __init__(self, settings: Settings, student: Model, teacher: Model) -> None:
        super().__init__()
        self.settings = settings
        self.student = student
        self.teacher = teacher

    @override
    def forward(self, batch: Batch[Pyramid, Memory]) -> dict[str, Tensor]:
        """Return the weighted terms of one step; the teacher decodes without gradient."""
        settings = self.settings
        with torch.no_grad():
            found = self.student.regions(batch.memory).boxes
            proposals = [boxes[:PROPOSALS] for boxes in found]
            shared = proposal_queries(proposals)
            memory = batch.teacher_memory
            target = self.teacher.decode(memory, shared.queries(self.teacher, memory))
            counts = outside_ignored(target.boxes[-1], batch.targets)[shared.valid]
            logits, boxes = (x[-1][shared.valid] for x in (target.logits, target.boxes))
            weights = query_weights(logits, counts, settings)
        output = self.student.classify_regions(batch.memory, proposals)
        teacher = TeacherOutputs(logits, boxes, target.known)
        terms = proposal_losses(output, teacher, weights, settings.class_norm)
        factors = (settings.class_weight, settings.l1_weight, settings.giou_weight)
        return {
            f"proposal_{name}": factor * terms[name]
            for name, factor in zip(("class", "l1", "giou"), factors, strict=True)
        }


class CellKdDetr(DistillationMethod):
    """The losses at a dense student's best anchors, against a query detector's outputs.

    Both score classes by independent sigmoids, so that the class term is `class_divergence`. The
    `PROPOSALS` best anchors lose those that overlap a better one by more than `OVERLAP`, as
    proposals do: a teacher's queries see one another, and one of two that want the same object
    gives way. Points weigh as in `KdDetr`.
    """

    terms = ("cell_class", "cell_l1", "cell_giou")

    def __init__(self, settings: Settings, student: Model, teacher: Model) -> None:
        super().__init__()
        self.settings = settings
        self.student = student
        self.teacher = teacher

    @override
    def forward(self, batch: Batch[Pyramid, Memory]) -> dict[str, Tensor]:
        """Return the weighted terms of one step; the teacher decodes without gradient."""
        settings = self.settings
        found = self.student.cell_outputs(batch.memory, PROPOSALS)
        with torch.no_grad():
            kept = [
                nms(boxes.float(), logits.amax(-1).float(), OVERLAP)
                for boxes, logits in zip(found.boxes, found.logits, strict=True)
            ]
            proposals = [b[rows].detach() for b, rows in zip(found.boxes, kept, strict=True)]
            shared = proposal_queries(proposals)
            decoded = self.teacher.decode(
                batch.teacher_memory, shared.queries(self.teacher, batch.teacher_memory)
            )
            counts = outside_ignored(decoded.boxes[-1], batch.targets)[shared.valid]
            target = TeacherOutputs(
                decoded.logits[-1][shared.valid], decoded.boxes[-1][shared.valid], decoded.known
            )
            weights = query_weights(target.logits, counts, settings)
        logits, boxes = (
            torch.cat([x[rows] for x, rows in zip(part, kept, strict=True)])
            for part in (found.logits, found.boxes)
        )
        terms = in_float32(query_losses)(
            only_known(logits, target.known),
            box_convert(boxes, "xyxy", "cxcywh"),
            only_known(target.logits, target.known),
            target.boxes,
            weights,
            ClassLoss(settings.class_loss, settings.class_norm, settings.temperature),
        )
        factors = (settings.class_weight, settings.l1_weight, settings.giou_weight)
        return {
            f"cell_{name}": factor * terms[name]
            for name, factor in zip(("class", "l1", "giou"), factors, strict=True)
        }


def supports(student: DetectorModule, teacher: DetectorModule) -> bool:
    """Tell whether the method takes a pair of families.

    The teacher decodes external queries, the student these, or it has boxes of its own to ask for.
    """
    asks = decodes_queries(student) or classifies_regions(student) or is_dense(student)
    return decodes_queries(teacher) and asks


def build(settings: Settings, student: Model, teacher: Model) -> DistillationMethod:
    """Make the method for a pair of models."""
    if decodes_queries(student.module):
        check_pair(settings, student, teacher)
        return KdDetr(settings, student, teacher)
    dense, default = is_dense(student.module), Settings()
    for name in _QUERIES_ONLY if dense else (*_QUERIES_ONLY, *_SIGMOIDS_ONLY):
        if getattr(settings, name) != getattr(default, name):
            raise SettingsError(
                f"{name} is for students that decode queries; {student.family} has its own "
                f"proposals: leave {name} out"
            )
    if dense:
        check_pair(settings, student, teacher)
        return CellKdDetr(settings, student, teacher)
    return ProposalKdDetr(settings, student, teacher)


_SIGMOIDS_ONLY = ("class_loss", "temperature")
_QUERIES_ONLY = (
    "corner_weight",
    "layers",
    "specific_weight",
    "general_weight",
    "point_share",
    "general_boxes",
)


def proposal_queries(proposals: Sequence[Tensor]) -> SharedQueries:
    """Make queries of no class from boxes, xyxy in [0, 1], (n, 4) an image; at least one slot."""
    counts = torch.tensor([len(p) for p in proposals], device=proposals[0].device)
    rows = [p if len(p) else p.new_zeros((1, 4)) for p in proposals]
    padded = pad_sequence(rows, batch_first=True)
    valid = torch.arange(padded.shape[1], device=counts.device) < counts[:, None]
    boxes = box_convert(padded, "xyxy", "cxcywh")
    boxes = torch.cat([boxes[..., :2].clamp(0, 1), boxes[..., 2:].clamp(MIN_SIZE, 1)], -1)
    boxes = torch.where(valid.unsqueeze(-1), boxes, boxes.new_full((), 0.5))
    return SharedQueries(None, boxes, valid)


@dataclass(frozen=True, eq=False)
class TeacherOutputs:
    """A query detector's outputs for N boxes, without gradient.

    Attributes:
        logits: Of independent sigmoids, (N, K).
        boxes: cxcywh in [0, 1], (N, 4).
        known: Indices of the classes that it knows; None where all.
    """

    logits: Tensor
    boxes: Tensor
    known: tuple[int, ...] | None = None


@in_float32
def proposal_losses(
    student: RegionOutputs,
    teacher: TeacherOutputs,
    weights: Tensor,
    class_norm: Literal["weights", "sum"] = "weights",
) -> dict[str, Tensor]:
    """Compare a two-stage head's outputs with a query detector's, box by box.

    Args:
        student: Outputs for N boxes; logits (N, 1 + K), boxes (N, K, 4), xyxy in [0, 1].
        teacher: The teacher's for the same N boxes.
        weights: Constant weight of each box (N,).
        class_norm: ``weights`` divides the class term by the summed weights; ``sum`` does not.

    Returns:
        ``class``, ``l1`` and ``giou``; all are 0 when no weight is positive.
    """
    divergence = exclusive_divergence(student.logits, teacher.logits, teacher.known)
    rows = torch.arange(len(student.boxes), device=student.boxes.device)
    best = student.boxes[rows, teacher.logits.argmax(-1)]
    return {
        "class": weighted(divergence, weights, class_norm),
        **box_losses(box_convert(best, "xyxy", "cxcywh"), teacher.boxes, weights),
    }
