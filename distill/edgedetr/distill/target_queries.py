"""Queries built from the ground truth: class as content, box as reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from edgedetr.distill.detectors import Queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.detectors import Targets

MIN_SIZE = 1e-3
"""Smallest width and height of a query's box, as a fraction of the input."""


@dataclass(frozen=True, eq=False)
class TargetQueries:
    """Queries whose content is still a class index, the same for student and teacher.

    Attributes:
        labels: Class indices (B, Q).
        boxes: cxcywh in [0, 1], (B, Q, 4).
        valid: False in slots that only fill up the batch, (B, Q).
        groups: Number of equal groups of slots.
    """

    labels: Tensor
    boxes: Tensor
    valid: Tensor
    groups: int

    def with_content(self, content: Tensor) -> Queries:
        """Give the queries the embedding (B, Q, D) of one model."""
        return Queries(content, self.boxes, self.valid, self.groups)


@dataclass(frozen=True)
class Noise:
    """Noise on target queries.

    Attributes:
        num_classes: How many classes a noisy label is drawn from.
        label: Probability of another class in [0, 1].
        box: Share of half a box's size in [0, 1].
    """

    num_classes: int = 1
    label: float = 0.0
    box: float = 0.0


def target_queries(
    targets: Sequence[Targets], groups: int = 1, noise: Noise = Noise()
) -> TargetQueries:
    """Build ``groups`` copies of every image's objects, each copy with noise of its own.

    Slot ``g * G + i`` holds copy g of object i, where G is the most objects of an image (at least
    one slot, so that a batch without objects still runs both decoders). Noise follows DN-DETR:
    a label becomes a random class with probability ``noise.label``; a centre moves by up to
    ``noise.box`` half sizes and a size changes by up to that share. Nothing here has a gradient.

    Args:
        targets: Truth of each image.
        groups: Number of copies.
        noise: Noise on every copy.
    """
    labels = pad_sequence([t.labels for t in targets], batch_first=True)
    boxes = pad_sequence([t.boxes for t in targets], batch_first=True)
    counts = torch.tensor([len(t.labels) for t in targets], device=labels.device)
    if labels.shape[1] == 0:
        labels = labels.new_zeros((len(targets), 1))
        boxes = boxes.new_full((len(targets), 1, 4), 0.5)
    valid = torch.arange(labels.shape[1], device=labels.device) < counts[:, None]
    boxes = torch.where(valid.unsqueeze(-1), boxes, boxes.new_full((), 0.5))
    labels, valid = labels.repeat(1, groups), valid.repeat(1, groups)
    boxes = boxes.repeat(1, groups, 1)
    if noise.label > 0:
        other = torch.randint_like(labels, 0, noise.num_classes)
        noisy = torch.rand(labels.shape, device=labels.device) < noise.label
        labels = torch.where(noisy, other, labels)
    if noise.box > 0:
        size = boxes[..., 2:]
        shift = (torch.rand_like(size) * 2 - 1) * size / 2 * noise.box
        growth = 1 + (torch.rand_like(size) * 2 - 1) * noise.box
        boxes = torch.cat([boxes[..., :2] + shift, size * growth], dim=-1)
    boxes = torch.cat([boxes[..., :2].clamp(0, 1), boxes[..., 2:].clamp(MIN_SIZE, 1)], dim=-1)
    return TargetQueries(labels, boxes, valid, groups)
