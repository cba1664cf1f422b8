"""How far a student's answers are from a teacher's, query by query.

Every method that asks both the same queries uses these: slot i of the student pairs with slot i of
the teacher, and nothing is matched. The teacher is the target of the divergence, never its
prediction: with the arguments swapped the student would get no class gradient at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou_loss


@dataclass(frozen=True)
class ClassLoss:
    """How class logits are compared.

    Attributes:
        kind: ``bernoulli_kl`` (summed over classes) or ``softmax_kl`` (mean over classes).
        norm: ``weights`` divides by the summed weights; ``sum`` does not.
        temperature: Softens both sides; the loss is scaled by its square.
    """

    kind: Literal["bernoulli_kl", "softmax_kl"] = "bernoulli_kl"
    norm: Literal["weights", "sum"] = "weights"
    temperature: float = 1.0


def query_losses(
    logits: Tensor,
    boxes: Tensor,
    teacher_logits: Tensor,
    teacher_boxes: Tensor,
    weights: Tensor,
    class_loss: ClassLoss,
) -> dict[str, Tensor]:
    """Compare one decoder layer's answers.

    Args:
        logits: The student's (B, Q, K).
        boxes: The student's (B, Q, 4), cxcywh in [0, 1].
        teacher_logits: (B, Q, K), without gradient.
        teacher_boxes: (B, Q, 4), without gradient.
        weights: Constant weight of each query (B, Q); 0 leaves a slot out.
        class_loss: How logits are compared.

    Returns:
        ``class``, ``l1`` (mean of the four coordinates) and ``giou``: the box terms are weighted
        means over the queries, the class term follows ``class_loss.norm``. All are 0 when no
        weight is positive.
    """
    used = weights > 0
    weights = weights[used]
    total = weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
    divergence = class_divergence(logits[used], teacher_logits[used], class_loss)
    l1 = F.l1_loss(boxes[used], teacher_boxes[used], reduction="none").mean(-1)
    corners, target = (box_convert(b[used], "cxcywh", "xyxy") for b in (boxes, teacher_boxes))
    giou = generalized_box_iou_loss(corners, target, eps=1e-12)
    return {
        "class": (weights * divergence).sum() / (total if class_loss.norm == "weights" else 1),
        "l1": (weights * l1).sum() / total,
        "giou": (weights * giou).sum() / total,
    }


def class_divergence(logits: Tensor, teacher_logits: Tensor, class_loss: ClassLoss) -> Tensor:
    """Return the divergence of each query from teacher to student, (N,), from logits (N, K)."""
    heat = class_loss.temperature
    student, teacher = logits / heat, teacher_logits / heat
    if class_loss.kind == "softmax_kl":
        kl = F.kl_div(
            student.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True
        )
        return heat**2 * kl.mean(-1)
    probability = teacher.sigmoid()
    cross = F.binary_cross_entropy_with_logits(student, probability, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher, probability, reduction="none")
    return heat**2 * (cross - entropy).sum(-1)
