"""Detections of a fixed number without duplicates, in operations of static shape.

torchvision's suppression gives as many boxes as survive, which neither a static ONNX graph nor
TensorRT takes. Here the greedy rule is iterated as a matrix product over all candidates (Fast and
Cluster-NMS: Zheng et al., 2020), and what it suppresses stays in its place, silenced.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert

ROUNDS = 16
"""Rounds of suppression; exact where no chain of boxes, each suppressing the next, is longer.

The rounds close in on the greedy result from both sides; an even number ends outside it, so that a
longer chain can leave a duplicate but never loses an object.
"""

SILENT = -20.0
"""Logit of what was suppressed and of the classes that a detection is not: a score of 2e-9."""


def detections(
    logits: Tensor, boxes: Tensor, *, candidates: int, iou: float, count: int
) -> tuple[Tensor, Tensor]:
    """Choose the best (box, class) pairs and suppress duplicates within each class.

    Args:
        logits: Class logits (B, N, K).
        boxes: xyxy in [0, 1]: (B, N, 4), or (B, N, K, 4) where each class has its own.
        candidates: How many of the best pairs are looked at.
        iou: Overlap above which the better of two boxes of a class suppresses the other.
        count: How many detections are returned.

    Returns:
        Logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1], best first. A detection has its own
        class's logit and `SILENT` elsewhere; where fewer than Q survive, the rest is `SILENT`
        everywhere and has boxes without area, which `edgedetr.runtime.postprocess` drops.
    """
    classes = logits.shape[-1]
    pairs = logits.flatten(1)
    scores, index = pairs.topk(min(candidates, pairs.shape[1]))
    rows = torch.div(index, classes, rounding_mode="trunc")
    labels = index - rows * classes
    found = taken(boxes.flatten(1, -2), index if boxes.dim() == 4 else rows)
    keep = survivors(found, labels, iou)
    scores, order = scores.where(keep, SILENT).topk(min(count, scores.shape[1]))
    alive = keep.gather(1, order).unsqueeze(-1)
    own = torch.arange(classes, device=labels.device) == labels.gather(1, order).unsqueeze(-1)
    outputs = scores.unsqueeze(-1).where(own, SILENT)
    return outputs, box_convert(taken(found, order), "xyxy", "cxcywh") * alive


def survivors(boxes: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Tell which boxes greedy non-maximum suppression keeps.

    Args:
        boxes: xyxy, best first, (B, C, 4).
        groups: Only boxes of the same group suppress one another, (B, C).
        iou: Overlap above which a box suppresses those behind it.

    Returns:
        (B, C), as `torchvision.ops.batched_nms` has it.
    """
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    union = area[:, :, None] + area[:, None, :] - shared
    rank = torch.arange(boxes.shape[1], device=boxes.device)
    suppresses = (
        (shared > iou * union)
        & (groups[:, :, None] == groups[:, None, :])
        & (rank[:, None] < rank[None, :])
    ).to(boxes.dtype)
    kept = torch.ones_like(boxes[:, None, :, 0])
    for _ in range(ROUNDS):
        kept = ((kept @ suppresses) < 0.5).to(boxes.dtype)
    return kept[:, 0] > 0.5


def taken(rows: Tensor, index: Tensor) -> Tensor:
    """Take rows (B, C) of (B, N, D): (B, C, D)."""
    return rows.gather(1, index.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
