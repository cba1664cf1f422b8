"""The first stage of Faster R-CNN, blind in ignored areas and with proposals of a fixed number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from typing_extensions import override

from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.anchor_heads import in_pixels, in_unit, neutral
from edgedetr.distill.networks.precision import in_float32
from edgedetr.distill.networks.static_nms import survivors, taken

if TYPE_CHECKING:
    from edgedetr.distill.networks.anchor_heads import TorchvisionTarget
    from edgedetr.distill.types import Pyramid


LEAST_SIDE_PX = 1e-3
"""Boxes with a shorter side are no proposals of torchvision's."""


class BatchSampler(BalancedPositiveNegativeSampler):  # type: ignore[misc]
    """torchvision's sampler, which draws for the whole batch where a pass sees a part of it.

    Attributes:
        sampled: How many it chose last.
    """

    sampled = 0

    @override
    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return which of each image's labels, 1, 0 or -1, were drawn as objects and background."""
        kinds = [[(m >= 1).nonzero().flatten(), (m == 0).nonzero().flatten()] for m in matched_idxs]
        lengths = [[len(kind) for kind in some] for some in kinds]
        orders = whole_batch.permutations(lengths, matched_idxs[0].device)
        objects: list[Tensor] = []
        background: list[Tensor] = []
        sampled = 0
        most = int(self.batch_size_per_image * self.positive_fraction)
        for matched, (own, other), (first, second) in zip(matched_idxs, kinds, orders, strict=True):
            chosen = own[first[:most]]
            rest = other[second[: self.batch_size_per_image - len(chosen)]]
            sampled += len(chosen) + len(rest)
            for found, some in ((objects, chosen), (background, rest)):
                found.append(torch.zeros_like(matched, dtype=torch.uint8).index_fill_(0, some, 1))
        self.sampled = sampled
        return objects, background


class RegionProposals(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's region proposal network; its anchors are `PyramidAnchors`.

    Attributes:
        by_level: Whether the best anchors of each level are looked at, as in torchvision, and not
            the best of all levels.
    """

    by_level = False

    @property
    def candidates(self) -> int:
        """How many of the best anchors are looked at for duplicates outside training."""
        return int(self._pre_nms_top_n["testing"])

    def propose(self, pyramid: Pyramid) -> tuple[Tensor, Tensor]:
        """Choose proposals in operations of static shape.

        The best `candidates` anchors of all levels together are looked at, or of each level; boxes
        suppress one another within their level, as in torchvision.

        Returns:
            Boxes (B, P, 4), xyxy in pixels, clipped, best first, and which of them are proposals
            and no filling, (B, P).
        """
        levels = list(pyramid.levels)
        objectness, deltas = self.head(levels)
        counts = [o.shape[1] * o.shape[2] * o.shape[3] for o in objectness]
        scores, codes = concat_box_prediction_layers(objectness, deltas)
        batch = len(levels[0])
        anchors = self.anchor_generator.on(levels, pyramid.hw).repeat(batch, 1)
        boxes = in_unit(self.box_coder.decode_single(codes, anchors), pyramid.hw)
        level_of = torch.cat(
            [torch.full((n,), i, device=boxes.device) for i, n in enumerate(counts)]
        )
        scores, boxes = scores.reshape(batch, -1), boxes.reshape(batch, -1, 4)
        if self.by_level:
            parts = (x.split(counts, dim) for x, dim in ((scores, 1), (boxes, 1), (level_of, 0)))
            kept = [self._kept(*part) for part in zip(*parts, strict=True)]
            scores, found, keep = (torch.cat(x, 1) for x in zip(*kept, strict=True))
            corners = in_pixels(found, pyramid.hw)
            keep = keep & ((corners[..., 2:] - corners[..., :2]).amin(-1) >= LEAST_SIDE_PX)
        else:
            scores, found, keep = self._kept(scores, boxes, level_of)
        order = scores.masked_fill(~keep, -torch.inf).topk(
            min(int(self._post_nms_top_n["testing"]), scores.shape[1])
        )
        chosen = taken(found, order.indices)
        return in_pixels(chosen, pyramid.hw), keep.gather(1, order.indices)

    def _kept(
        self, scores: Tensor, boxes: Tensor, level_of: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores and boxes of the best anchors, and which suppression keeps."""
        best, index = scores.topk(min(self.candidates, scores.shape[1]))
        found = taken(boxes, index)
        return best, found, survivors(found, level_of[index], self.nms_thresh)

    @override
    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[TorchvisionTarget]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label anchors 1, 0 or -1 (neither), with the box of each; see `neutral`."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        labels = [
            label.masked_fill((label == 0) & neutral(each, target, self.proposal_matcher), -1)
            for label, each, target in zip(labels, anchors, targets, strict=True)
        ]
        return labels, boxes

    @override
    @in_float32
    def filter_proposals(self, *arguments: Any, **named: Any) -> Any:
        """Choose proposals as torchvision does, whose suppression wants one precision."""
        return super().filter_proposals(*arguments, **named)

    @override
    @in_float32
    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return both losses, 0 where no anchor is object or background (the mean of nothing)."""
        losses = objectness.sum() * 0, pred_bbox_deltas.sum() * 0
        if any((label >= 0).any() for label in labels):
            losses = super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)
        elif whole_batch.current_part():  # the other parts draw for the images of this one too
            self.fg_bg_sampler(labels)
        part = whole_batch.share(self.fg_bg_sampler.sampled)
        return losses[0] * part, losses[1] * part
