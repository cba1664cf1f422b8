"""RT-DETR's and D-FINE's detection losses, over all decoder layers at once.

The formulas and the weights are those of transformers' ``RTDetrLoss`` and ``DFineLoss``, which take
one layer after the other; there most of the time goes into starting small operations. Where layers
lie beside one another in one tensor, a loss of all of them is one operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert
from transformers.loss.loss_d_fine import weighting_function

from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.device_reads import read
from edgedetr.distill.networks.precision import in_float32

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SILENT_LOGIT = -50.0
"""Class logit whose varifocal loss and gradient are zero in float32."""

CORNER_TEMPERATURE = 5.0
"""Softens the distributions of edges that the last layer is the target of (D-FINE's T)."""


@dataclass(frozen=True, eq=False)
class Layers:
    """The outputs of L layers for the same queries.

    Attributes:
        logits: Class logits (L, B, Q, K).
        boxes: cxcywh in [0, 1], (L, B, Q, 4).
        corners: D-FINE's distributions of edges of the last E layers, (E, B, Q, 4 * bins).
        references: The boxes that these move the edges of, (E, B, Q, 4).
    """

    logits: Tensor
    boxes: Tensor
    corners: Tensor | None
    references: Tensor | None


@dataclass(frozen=True, eq=False)
class Truth:
    """The objects of a batch.

    Attributes:
        labels: Class of each object, (G,), image after image.
        boxes: cxcywh in [0, 1], (G, 4).
        sizes: Objects of each image.
    """

    labels: Tensor
    boxes: Tensor
    sizes: tuple[int, ...]

    @property
    def firsts(self) -> list[int]:
        """Index of each image's first object."""
        return [sum(self.sizes[:image]) for image in range(len(self.sizes))]


@dataclass(frozen=True, eq=False)
class Matches:
    """Which prediction stands for which object, in every layer as many.

    Attributes:
        rows: Index among the B * Q predictions of a layer, (L, N).
        objects: Index among the objects of the batch, (L, N).
        whole: How many matches a layer has in the whole batch, see
            `edgedetr.distill.networks.whole_batch`.
    """

    rows: Tensor
    objects: Tensor
    whole: int


def truth_of(targets: Sequence[Mapping[str, Tensor]]) -> Truth:
    """Join the ``class_labels`` (G,) and ``boxes`` (G, 4) of a batch's images."""
    return Truth(
        torch.cat([t["class_labels"] for t in targets]),
        torch.cat([t["boxes"] for t in targets]),
        tuple(len(t["class_labels"]) for t in targets),
    )


@torch.no_grad()
@in_float32
def hungarian_matches(logits: Tensor, boxes: Tensor, truth: Truth, config: Any) -> Matches:  # noqa: ANN401
    """Match each layer's predictions to the objects at the least cost (`RTDetrHungarianMatcher`).

    Args:
        logits: (L, B, Q, K).
        boxes: (L, B, Q, 4), cxcywh in [0, 1].
        truth: The objects.
        config: transformers' configuration, with the weights of the cost.
    """
    depth, _, queries, _ = logits.shape
    labels, targets = (
        pad_sequence(list(torch.split(part, list(truth.sizes))), batch_first=True)
        for part in (truth.labels, truth.boxes)
    )
    p, alpha, gamma = logits.sigmoid(), config.matcher_alpha, config.matcher_gamma
    by_class = alpha * (1 - p) ** gamma * -(p + 1e-8).log()
    by_class = by_class - (1 - alpha) * p**gamma * -(1 - p + 1e-8).log()
    chosen = labels[None, :, None, :].expand(depth, -1, queries, -1)
    _, giou = overlaps(boxes.unsqueeze(3), targets[:, None])
    cost = (
        config.matcher_bbox_cost * torch.cdist(boxes, targets, p=1)
        + config.matcher_class_cost * by_class.gather(3, chosen)
        - config.matcher_giou_cost * giou
    )
    largest = torch.finfo(cost.dtype).max
    cost = cost.nan_to_num(nan=largest, posinf=largest, neginf=largest)
    pairs = [
        [linear_sum_assignment(c[:, :size]) for c, size in zip(layer, truth.sizes, strict=True)]
        for layer in read(cost)
    ]
    firsts = truth.firsts
    rows, objects = (
        np.stack(
            [
                np.concatenate(
                    [pair[side] + start for pair, start in zip(layer, starts, strict=True)]
                )
                for layer in pairs
            ]
        )
        for side, starts in enumerate(([i * queries for i in range(len(firsts))], firsts))
    )
    found, known = (torch.from_numpy(x).to(logits.device) for x in (rows, objects))
    whole = sum(min(size, queries) for size in whole_batch.sizes(truth.sizes))
    return Matches(found, known, whole)


def denoising_matches(meta: Mapping[str, Any], truth: Truth, layers: int) -> Matches:
    """Return what the denoising queries were made from, the same in every layer.

    Args:
        meta: transformers' ``denoising_meta_values``.
        truth: The objects.
        layers: How many layers there are.
    """
    count, device = meta["dn_num_split"][0], truth.labels.device
    rows = [row + image * count for image, row in enumerate(meta["dn_positive_idx"])]
    objects = [
        (torch.arange(size, device=device) + first).repeat(meta["dn_num_group"])
        for size, first in zip(truth.sizes, truth.firsts, strict=True)
    ]
    whole = meta["dn_num_group"] * sum(whole_batch.sizes(truth.sizes))
    return Matches(torch.cat(rows).expand(layers, -1), torch.cat(objects).expand(layers, -1), whole)


@in_float32
def layer_losses(
    layers: Layers,
    truth: Truth,
    matches: Matches,
    num_boxes: float,
    config: Any,  # noqa: ANN401
    silent: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return each loss of each layer, (L,), weighted; of corners those of the last layers, (E,).

    Args:
        layers: The outputs of L layers for the same queries.
        truth: The objects.
        matches: What each layer's predictions stand for.
        num_boxes: What the losses are divided by.
        config: transformers' configuration, with the weights of the losses.
        silent: Predictions that give no class loss, (L, B, Q); None for none.
    """
    logits = layers.logits
    if silent is not None:
        logits = logits.masked_fill(silent.unsqueeze(-1), SILENT_LOGIT)
    targets = truth.boxes[matches.objects]
    boxes = _matched(layers.boxes, matches.rows)
    iou, giou = overlaps(boxes, targets)
    labels = truth.labels[matches.objects]
    losses = {
        "loss_vfl": config.weight_loss_vfl
        * varifocal_loss(logits, matches.rows, labels, iou.detach(), config),
        "loss_bbox": config.weight_loss_bbox * (boxes - targets).abs().sum((1, 2)),
        "loss_giou": config.weight_loss_giou * (1 - giou).sum(1),
    }
    losses = {name: loss / num_boxes for name, loss in losses.items()}
    if layers.corners is not None:
        depth = len(layers.corners)
        losses |= _corner_losses(
            layers,
            Matches(matches.rows[-depth:], matches.objects[-depth:], matches.whole),
            targets[-depth:],
            iou[-depth:].detach(),
            num_boxes,
            config,
        )
    return losses


def varifocal_loss(
    logits: Tensor,
    rows: Tensor,
    labels: Tensor,
    iou: Tensor,
    config: Any,  # noqa: ANN401
) -> Tensor:
    """Return the varifocal loss of each layer, (L,): the target of a match's class is its IoU.

    Args:
        logits: (L, B, Q, K).
        rows: Matched predictions, (L, N).
        labels: Their classes, (L, N).
        iou: With their objects, without gradient, (L, N).
        config: With ``focal_loss_alpha`` and ``focal_loss_gamma``.
    """
    layer = torch.arange(len(rows), device=rows.device)[:, None]
    flat = logits.flatten(1, 2)
    score, matched = torch.zeros_like(flat), torch.zeros_like(flat)
    score[layer, rows, labels] = iou.to(flat.dtype)
    matched[layer, rows, labels] = 1
    p = flat.detach().sigmoid()
    weight = config.focal_loss_alpha * p**config.focal_loss_gamma * (1 - matched) + score
    loss = F.binary_cross_entropy_with_logits(flat, score, weight=weight, reduction="none")
    return loss.sum((1, 2))


def _corner_losses(
    layers: Layers,
    matches: Matches,
    targets: Tensor,
    iou: Tensor,
    num_boxes: float,
    config: Any,  # noqa: ANN401
) -> dict[str, Tensor]:
    """Return D-FINE's fine-grained localization and decoupled distillation focal loss, (E,)."""
    assert layers.corners is not None  # noqa: S101 - the caller saw to it
    assert layers.references is not None  # noqa: S101
    corners = layers.corners.unflatten(-1, (4, -1))  # type: ignore[no-untyped-call]
    left, right_share = edge_targets(_matched(layers.references, matches.rows), targets, config)
    log_p = _matched(corners, matches.rows).log_softmax(-1)
    at_left, at_right = (
        -log_p.gather(-1, bin_.unsqueeze(-1)).squeeze(-1) for bin_ in (left, left + 1)
    )
    nll = at_left.lerp(at_right, right_share)
    return {
        "loss_fgl": config.weight_loss_fgl * (iou * nll.sum(-1)).sum(1) / num_boxes,
        "loss_ddf": config.weight_loss_ddf
        * _distilled_from_last(corners, layers.logits[-1], matches, iou),
    }


def _distilled_from_last(
    corners: Tensor, last_logits: Tensor, matches: Matches, iou: Tensor
) -> Tensor:
    """Return how far each layer's edges are from the last layer's, (E,); of the last 0.

    Args:
        corners: (E, B, Q, 4, bins).
        last_logits: Class logits of the last layer, (B, Q, K).
        matches: What the predictions stand for.
        iou: Of the matched ones with their objects, (E, N).
    """
    rows, inner = matches.rows, len(matches.rows) - 1
    batch, count = whole_batch.images(len(last_logits)), matches.whole
    flat = corners.flatten(1, 2) / CORNER_TEMPERATURE
    target = flat[-1].detach().log_softmax(-1)
    kl = F.kl_div(
        flat[:-1].log_softmax(-1), target.expand_as(flat[:-1]), reduction="none", log_target=True
    )
    kl = CORNER_TEMPERATURE**2 * kl.sum((-1, -2))
    weights = last_logits.detach().sigmoid().amax(-1).flatten().repeat(inner, 1)
    weights = weights.scatter(1, rows[:-1], iou[:-1].to(weights.dtype))
    matched = torch.zeros_like(weights).scatter(1, rows[:-1], 1.0)
    kl = kl * weights
    others = batch * last_logits.shape[1] - count
    positive, negative = (4 * count / batch) ** 0.5, (4 * others / batch) ** 0.5
    loss = (kl * matched).sum(1) / max(4 * count, 1) * positive
    loss = loss + (kl * (1 - matched)).sum(1) / max(4 * others, 1) * negative
    return torch.cat([loss / (positive + negative), loss.new_zeros(1)])


def edge_targets(references: Tensor, targets: Tensor, config: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Return where the edges of boxes lie among D-FINE's bins.

    Args:
        references: Boxes that the bins are laid around, cxcywh, (..., 4).
        targets: Boxes, cxcywh, (..., 4).
        config: With ``max_num_bins``, ``up`` and ``reg_scale``.

    Returns:
        The bin at the left of each edge (..., 4), and the share of the one at its right.
    """
    scale = abs(config.reg_scale)
    centre, size = references.detach()[..., :2], references.detach()[..., 2:] / scale + 1e-16
    edges = box_convert(targets, "cxcywh", "xyxy")
    away = torch.cat([(centre - edges[..., :2]) / size, (edges[..., 2:] - centre) / size], -1)
    away = (away - 0.5 * scale).contiguous()
    values = _bin_values(config.max_num_bins, config.up, config.reg_scale).to(away)
    left = torch.searchsorted(values, away, right=True) - 1
    left = left.clamp(0, config.max_num_bins - 1)
    low, high = values[left], values[left + 1]
    return left, ((away - low) / (high - low)).clamp(0, 1)


@lru_cache(maxsize=8)
def _bin_values(count: int, up: float, scale: float) -> Tensor:
    values: Tensor = weighting_function(count, torch.tensor([up]), scale)
    return values


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalized IoU of boxes, cxcywh, whose shapes (..., 4) broadcast."""
    a_low, a_size, b_low, b_size = a[..., :2], a[..., 2:], b[..., :2], b[..., 2:]
    a_low, b_low = a_low - a_size / 2, b_low - b_size / 2
    a_high, b_high = a_low + a_size, b_low + b_size
    shared = _area((torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0))
    union = _area(a_size) + _area(b_size) - shared
    hull = _area(torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low))
    iou = shared / union
    return iou, iou - (hull - union) / hull


def _area(size: Tensor) -> Tensor:
    return size[..., 0] * size[..., 1]


def _matched(values: Tensor, rows: Tensor) -> Tensor:
    """Take rows (L, N) of values (L, B, Q, ...), (L, N, ...)."""
    flat = values.flatten(1, 2)
    layer = torch.arange(len(rows), device=rows.device)[:, None]
    return flat[layer, rows]
