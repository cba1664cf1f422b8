"""Which of a student's regions have a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.criterion import IGNORED_SHARE, share_inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.types import Targets

MATCHED_IOU = 0.5
"""A region is positive from this IoU with an object on."""

POSITIVE_SHARE = 0.25
"""Largest share of the samples that is positive: one to three negatives."""


@dataclass(frozen=True, eq=False)
class RegionSamples:
    """Regions chosen from those of a batch.

    Attributes:
        boxes: xyxy in [0, 1], (n, 4) an image.
        rows: Index of each among the regions of all images in turn, (N,).
        positive: True for regions of objects, (N,).
        images: Index of each one's image, (N,).
    """

    boxes: tuple[Tensor, ...]
    rows: Tensor
    positive: Tensor
    images: Tensor

    def alike(self) -> Tensor:
        """Tell which samples lie in a positive's image with an IoU above 0.5 to it, (P, N)."""
        boxes = torch.cat(self.boxes)
        same_image = self.images[self.positive, None] == self.images
        return same_image & (box_iou(boxes[self.positive], boxes) > MATCHED_IOU)  # type: ignore[no-any-return]


def region_samples(boxes: Sequence[Tensor], targets: Sequence[Targets], most: int) -> RegionSamples:
    """Draw at most ``most`` regions an image, at most a quarter of these positive.

    Regions at least half inside an ignored area that are no object's are left out, and so are
    those without area.

    Args:
        boxes: The regions, xyxy in [0, 1], (n, 4) an image.
        targets: Truth of each image.
        most: Regions an image.
    """
    rows, positive = [], []
    first = 0
    assigned = [_assigned(found, target) for found, target in zip(boxes, targets, strict=True)]
    indices = [[kind.nonzero().flatten() for kind in kinds] for kinds in assigned]
    orders = whole_batch.permutations(
        [[len(i) for i in kinds] for kinds in indices], boxes[0].device
    )
    for found, (is_object, _), kinds, order in zip(boxes, assigned, indices, orders, strict=True):
        objects = kinds[0][order[0][: int(most * POSITIVE_SHARE)]]
        background = kinds[1][order[1][: most - len(objects)]]
        chosen = torch.cat([objects, background])
        rows.append(first + chosen)
        positive.append(is_object[chosen])
        first += len(found)
    counts = torch.tensor([len(r) for r in rows], device=rows[0].device)
    every = torch.cat(rows)
    kept = torch.split(torch.cat(list(boxes))[every], [len(r) for r in rows])
    images = torch.arange(len(rows), device=every.device).repeat_interleave(counts)
    return RegionSamples(tuple(kept), every, torch.cat(positive), images)


def _assigned(boxes: Tensor, target: Targets) -> tuple[Tensor, Tensor]:
    """Tell which boxes (n, 4) are an object's and which are background's."""
    is_object = boxes.new_zeros(len(boxes), dtype=torch.bool)
    neither = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    if len(target.boxes):
        truth = box_convert(target.boxes, "cxcywh", "xyxy")
        is_object = box_iou(boxes, truth).amax(1) > MATCHED_IOU
    if len(target.ignored):
        inside = share_inside(box_convert(boxes, "xyxy", "cxcywh"), target.ignored)
        neither |= inside >= IGNORED_SHARE
    return is_object, ~is_object & ~neither
