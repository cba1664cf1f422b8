"""Relations between the objects of an image, with a filter of which relations matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert
from typing_extensions import override

from edgedetr.distill.losses.foreground_mask import EPSILON, standardised
from edgedetr.distill.losses.region_pooling import region_features
from edgedetr.distill.networks import whole_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.types import Targets

MOST = 100
"""Objects of an image that are related; of more, a random choice of as many."""

BINS = 3
"""Bins along each side that an object is pooled to."""

FILTER_WIDTH = 32
"""Hidden features of the relation filter."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a batch, filled up to the image with most.

    Attributes:
        boxes: cxcywh in [0, 1], (B, N, 4).
        valid: False in slots that only fill up the batch, (B, N).
    """

    boxes: Tensor
    valid: Tensor

    @property
    def related(self) -> Tensor:
        """True for objects that are not alone in their image, (B, N)."""
        return self.valid & (self.valid.sum(1, keepdim=True) > 1)

    def standardised(self, features: Tensor) -> Tensor:
        """Give each feature of (B, N, F) mean 0 and variance 1 over the related objects.

        These are the objects of all processes.
        """
        if whole_batch.current_part() is not None:
            return _standardised_over_processes(features, self.related)
        as_level = features.flatten(0, 1).T[None, :, :, None]
        normal = standardised(as_level, self.related.reshape(1, 1, -1, 1))
        return normal[0, :, :, 0].T.view_as(features)

    def features(self, level: Tensor) -> Tensor:
        """Pool each object from a level (B, D, H, W), (B, N, 9 D); 0 in slots that fill up."""
        rows = [b[v] for b, v in zip(self.boxes, self.valid, strict=True)]
        pooled = region_features(level, [box_convert(b, "cxcywh", "xyxy") for b in rows], BINS)
        slots = level.new_zeros(*self.valid.shape, pooled.shape[1] * BINS * BINS)
        return slots.masked_scatter(self.valid[..., None], pooled)


def objects(targets: Sequence[Targets]) -> Objects:
    """Collect the objects of a batch, at most `MOST` an image; at least one slot."""
    rows = whole_batch.for_every_image(targets, _chosen)
    boxes = pad_sequence(rows, batch_first=True, padding_value=0.5)
    if boxes.shape[1] == 0:
        boxes = boxes.new_full((len(rows), 1, 4), 0.5)
    counts = torch.tensor([len(b) for b in rows], device=boxes.device)
    return Objects(boxes, torch.arange(boxes.shape[1], device=boxes.device) < counts[:, None])


def _chosen(targets: Sequence[Targets]) -> list[Tensor]:
    """Return the boxes of each image, of too many a random choice."""
    return [
        t.boxes[torch.randperm(len(t.boxes), device=t.boxes.device)[:MOST]]
        if len(t.boxes) > MOST
        else t.boxes
        for t in targets
    ]


def _standardised_over_processes(features: Tensor, related: Tensor) -> Tensor:
    """Do as `standardised` with the related objects of all processes."""
    rows, counted = features.flatten(0, 1), related.flatten().to(features.dtype)
    sums = whole_batch.summed(torch.cat([counted @ rows, counted.sum()[None]]))
    count = sums[-1].detach().clamp(min=1)
    centred = rows - sums[:-1] / count
    variance = whole_batch.summed(counted @ centred.square()) / count
    return (centred * torch.rsqrt(variance + EPSILON)).view_as(features)


class ObjectRelations(nn.Module):
    """Lets each object gather features of its image's other objects, filtered pair by pair.

    ``r_i = standardised(W sum_j a_ij g(x_j))`` with
    ``a_i = softmax_j!=i(w_ij * theta(x_i).phi(x_j) / sqrt(h))``. Each feature of r has mean 0 and
    variance 1 over the batch's related objects, like the features that it is to tell of.

    Args:
        width: Channels D of the level; h is the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        features = width * BINS * BINS
        self.theta = nn.Linear(features, width)
        self.phi = nn.Linear(features, width)
        self.g = nn.Linear(features, width, bias=False)
        self.out = nn.Linear(width, features, bias=False)
        self.filter = RelationFilter(features)

    @override
    def forward(self, features: Tensor, objects: Objects) -> Tensor:
        """Return r (B, N, 9 D) of the related objects' features x as large."""
        weights = self.relations(features, objects)
        gathered = self.out(weights @ self.g(features))
        return objects.standardised(gathered)

    def relations(self, features: Tensor, objects: Objects) -> Tensor:
        """Return how much each object gathers from each other, rows adding up to 1, (B, N, N)."""
        query, key = self.theta(features), self.phi(features)
        scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
        scores = self.filter(features, objects.boxes) * scores
        itself = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
        low = torch.finfo(scores.dtype).min
        return F.softmax(scores.masked_fill(~objects.valid[:, None] | itself, low), dim=-1)


class RelationFilter(nn.Module):
    """How much the relation of a pair matters, in (0, 1), from both objects and their geometry.

    A network of one hidden layer over ``[x_i, x_j, geometry_ij]``, whose first layer is computed
    once an object rather than once a pair.

    Args:
        features: Features of an object.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.one = nn.Linear(features, FILTER_WIDTH)
        self.other = nn.Linear(features, FILTER_WIDTH, bias=False)
        self.geometry = nn.Linear(4, FILTER_WIDTH, bias=False)
        self.last = nn.Linear(FILTER_WIDTH, 1)

    @override
    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Return (B, N, N) from features (B, N, F) and boxes, cxcywh, (B, N, 4)."""
        hidden = self.one(features)[:, :, None] + self.other(features)[:, None]
        hidden = hidden + self.geometry(pair_geometry(boxes))
        weights: Tensor = self.last(hidden.relu()).squeeze(-1).sigmoid()
        return weights


def pair_geometry(boxes: Tensor) -> Tensor:
    """Return where and how large box j is as seen from box i, (B, N, N, 4).

    The offset of centres in sizes of box i, as ``sign(x) log(1 + |x|)``, and the logarithms of the
    ratios of width and height.

    Args:
        boxes: cxcywh, sizes above 0, (B, N, 4).
    """
    centre, size = torch.split(boxes, 2, dim=-1)
    size = size.clamp(min=1e-6)
    offset = (centre[:, None] - centre[:, :, None]) / size[:, :, None]
    ratio = size[:, None] / size[:, :, None]
    return torch.cat([offset.sign() * offset.abs().log1p(), ratio.log()], dim=-1)
