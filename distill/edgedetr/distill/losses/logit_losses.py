"""How far a student's outputs are from a teacher's, query by query.

Every method that decodes the same queries with both uses these: slot i of the student pairs with
slot i of the teacher, and nothing is matched. The teacher is the target of the divergence, never
its prediction: with the arguments swapped the student would get no class gradient at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou_loss

from edgedetr.distill.class_map import only_known, without_unknown
from edgedetr.distill.networks import whole_batch

CORNER_TEMPERATURE = 5.0
"""Softens the distributions of edges on both sides, as in D-FINE."""


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
    """Compare the outputs of one decoder layer.

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
    divergence = class_divergence(logits[used], teacher_logits[used], class_loss)
    return {
        "class": weighted(divergence, weights[used], class_loss.norm),
        **box_losses(boxes, teacher_boxes, weights),
    }


def box_losses(boxes: Tensor, teacher_boxes: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Return ``l1`` (mean of the four coordinates) and ``giou``, means by weight.

    Args:
        boxes: The student's (..., 4), cxcywh in [0, 1].
        teacher_boxes: (..., 4), without gradient.
        weights: Constant weight of each box (...); 0 leaves it out.
    """
    used = weights > 0
    mine, theirs = boxes[used], teacher_boxes[used]
    l1 = F.l1_loss(mine, theirs, reduction="none").mean(-1)
    corners, target = (box_convert(b, "cxcywh", "xyxy") for b in (mine, theirs))
    giou = generalized_box_iou_loss(corners, target, eps=1e-12)
    return {"l1": weighted(l1, weights[used]), "giou": weighted(giou, weights[used])}


def corner_loss(corners: Tensor, teacher_corners: Tensor, weights: Tensor) -> Tensor:
    """Return how far the distributions of the four edges are, mean by weight.

    ``mean over edges of T^2 * KL(softmax(teacher / T) || softmax(student / T))`` with T = 5, as
    between D-FINE's layers, whose last one is the others' target (decoupled distillation focal
    loss of GO-LSD, Peng et al., 2024; ``loss_local`` of transformers' ``DFineLoss``). Each model's
    distributions move the edges of its own initial box: equal distributions are equal boxes only as
    far as those agree, so the box losses stay needed.

    Args:
        corners: The student's logits (B, Q, 4 * bins).
        teacher_corners: (B, Q, 4 * bins) of the same bins, without gradient.
        weights: Constant weight of each query (B, Q); 0 leaves a slot out.
    """
    used = weights > 0
    student, teacher = (
        (c[used].unflatten(-1, (4, -1)) / CORNER_TEMPERATURE).log_softmax(-1)  # type: ignore[no-untyped-call]
        for c in (corners, teacher_corners)
    )
    kl = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1).mean(-1)
    return weighted(CORNER_TEMPERATURE**2 * kl, weights[used])


def weighted(
    losses: Tensor, weights: Tensor, norm: Literal["weights", "sum"] = "weights"
) -> Tensor:
    """Sum losses (N,) times weights (N,), over the summed weights or not; 0 when there is none.

    The weights are summed over the whole batch, see `edgedetr.distill.networks.whole_batch`.
    """
    total = whole_batch.total(weights.sum()).clamp(min=torch.finfo(weights.dtype).tiny)
    return (weights * losses).sum() / (total if norm == "weights" else 1)


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


def exclusive_divergence(
    logits: Tensor, teacher_logits: Tensor, known: tuple[int, ...] | None = None
) -> Tensor:
    """Return the divergence of each box from a sigmoid teacher to a softmax student, (N,).

    ``KL(t || softmax(logits))`` with `exclusive_probabilities` as t: it is 0 exactly where the
    student's output is t, which any teacher allows, since t sums to 1.

    Args:
        logits: The student's (N, 1 + K), background first.
        teacher_logits: The teacher's (N, K), of independent sigmoids, without gradient.
        known: Indices of the classes that the teacher knows; the student's others count as
            background, from which the teacher cannot tell them. None where all.
    """
    target = exclusive_probabilities(only_known(teacher_logits, known))
    logits = without_unknown(logits, known)
    return F.kl_div(logits.log_softmax(-1), target, reduction="none").sum(-1)


def exclusive_probabilities(logits: Tensor) -> Tensor:
    """Turn independent sigmoids (N, K) into probabilities of background and classes, (N, 1 + K).

    A sigmoid head does not exclude that a box has two classes, a softmax head does. With
    s = sigmoid(logits), a box is an object with probability max(s), the best class's, and its
    classes share that in proportion to s: background gets 1 - max(s), class c max(s) s_c / sum(s).
    Where only one class is likely, that class keeps its s.
    """
    scores = logits.sigmoid()
    best = scores.amax(-1, keepdim=True)
    shares = scores / scores.sum(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
    return torch.cat([1 - best, best * shares], -1)
