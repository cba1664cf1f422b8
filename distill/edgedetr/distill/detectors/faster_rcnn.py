"""Faster R-CNN (Ren et al., 2015) with a feature pyramid, from torchvision: two stages.

The presets ``r18`` to ``x101`` are the published ones; the ``edge`` ones are ours: few channels in
the pyramid and small anchors, for small inputs, with the same second stage, so that a student can
inherit its teacher's. ``edge-r18`` has the whole ResNet-18 before them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign, box_iou, roi_align
from torchvision.ops.poolers import LevelMapper

from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.anchor_heads import (
    encode,
    in_pixels,
    in_unit,
    loss_terms,
    neutral,
    sigmoid_logits,
    torchvision_targets,
    width,
)
from edgedetr.distill.networks.finite import require_finite
from edgedetr.distill.networks.fpn import (
    EDGE_SMALL,
    EDGE_TINY,
    NarrowResNet,
    PyramidAnchors,
    pyramid_backbone,
)
from edgedetr.distill.networks.precision import in_float32
from edgedetr.distill.networks.rpn import BatchSampler, RegionProposals
from edgedetr.distill.networks.static_nms import SILENT, detections
from edgedetr.distill.networks.torchvision_model import (
    filled,
    published_anchors,
    published_network,
)
from edgedetr.distill.types import RegionOutputs, Regions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedetr.distill.networks.anchor_heads import TorchvisionTarget
    from edgedetr.distill.networks.fpn import PublishedAnchors
    from edgedetr.distill.types import Losses, Pyramid, Targets

STRIDE = 4
RATIOS = (0.5, 1.0, 2.0)
LEAST_SIDE_PX = 1e-2
"""Boxes with a shorter side are no detections of torchvision's."""
POOLED = ("0", "1", "2", "3")
"""The levels that regions are pooled from; the coarsest is for proposals alone."""


@dataclass(frozen=True)
class Preset:
    """Shape of a Faster R-CNN.

    Attributes:
        backbone: Own shape, or the name of a torchvision ResNet.
        width: Channels of the pyramid.
        hidden: Channels of the second stage's two layers.
        anchor: Side of the square anchor of a level, in strides.
        canonical: Side in pixels of a region that is pooled at stride 16.
        sampled: Proposals of an image that train the second stage; half as many anchors train the
            first.
        candidates: How many of the best anchors, and of the best (proposal, class) pairs, are
            looked at for duplicates.
        proposals: How many proposals of an image the second stage sees outside training.
    """

    backbone: NarrowResNet | str
    width: int = 256
    hidden: int = 1024
    anchor: float = 8.0
    canonical: int = 224
    sampled: int = 512
    candidates: int = 1000
    proposals: int = 300


PRESETS: dict[str, Preset] = {
    "edge-tiny": Preset(EDGE_TINY, 64, 192, 3.0, 64, 128, 300, 100),
    "edge-small": Preset(EDGE_SMALL, 64, 192, 3.0, 64, 128, 300, 100),
    "edge-r18": Preset("resnet18", 64, 192, 3.0, 64, 128, 300, 100),
    "r18": Preset("resnet18"),
    "r50": Preset("resnet50"),
    "r101": Preset("resnet101"),
    "x101": Preset("resnext101_64x4d"),
}


def build(preset: str, num_classes: int) -> nn.Module:
    """Make a Faster R-CNN with fresh weights."""
    shape = PRESETS[preset]
    pool = MultiScaleRoIAlign(POOLED, 7, 2, canonical_scale=shape.canonical)
    anchors = PyramidAnchors(STRIDE, [shape.anchor], RATIOS)
    proposals = _proposals(anchors, RPNHead(shape.width, len(RATIOS)), shape, shape.proposals)
    heads = RoIHeads(
        pool,
        TwoMLPHead(shape.width * 7**2, shape.hidden),
        FastRCNNPredictor(shape.hidden, 1 + num_classes),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=shape.sampled,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=0.0,
        nms_thresh=0.5,
        detections_per_img=100,
    )
    backbone = pyramid_backbone(shape.backbone, shape.width, STRIDE)
    model = GeneralizedRCNN(backbone, proposals, heads, nn.Identity())
    _draw_for_whole_batches(model)
    network: nn.Module = model
    return network


def build_from(
    config: Mapping[str, Any], num_classes: int, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Make torchvision's own Faster R-CNN, with the anchors and proposals that it has there."""
    model = published_network(config, 1 + num_classes)
    theirs, shape = model.rpn, PRESETS["r50"]
    model.rpn = _proposals(
        published_anchors(theirs.anchor_generator), theirs.head, shape, shape.candidates
    )
    model.rpn.by_level = True
    _draw_for_whole_batches(model)
    return filled(model, tensors)


def _draw_for_whole_batches(model: GeneralizedRCNN) -> None:
    """Let both stages draw what they train on for the whole batch, as many as before."""
    for stage in (model.rpn, model.roi_heads):
        plain = stage.fg_bg_sampler
        stage.fg_bg_sampler = BatchSampler(plain.batch_size_per_image, plain.positive_fraction)


def _proposals(
    anchors: PublishedAnchors, head: nn.Module, shape: Preset, count: int
) -> RegionProposals:
    """Make the first stage, which gives so many proposals outside training."""
    return RegionProposals(
        anchors,
        head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=shape.sampled // 2,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 2 * shape.candidates, "testing": shape.candidates},
        post_nms_top_n={"training": 2 * shape.candidates, "testing": count},
        nms_thresh=0.7,
    )


def predict(model: GeneralizedRCNN, images: Tensor) -> tuple[Tensor, Tensor]:
    """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1]."""
    pyramid = encode(model, images)
    proposals, alive = model.rpn.propose(pyramid)
    require_finite(proposals=proposals)  # pooling them would read outside the image's memory
    pooled = pooled_by_selection(model.roi_heads.box_roi_pool, pyramid, proposals)
    outputs = _outputs(model.roi_heads, pooled, proposals.flatten(0, 1), pyramid.hw)
    logits = sigmoid_logits(outputs.logits.softmax(-1)[:, 1:]).reshape(*alive.shape, -1)
    boxes, is_found = outputs.boxes.reshape(*logits.shape, 4), alive.unsqueeze(-1)
    if model.rpn.by_level:
        corners = in_pixels(boxes, pyramid.hw)
        sides = corners[..., 2:] - corners[..., :2]
        is_found = is_found & (sides.amin(-1) >= LEAST_SIDE_PX)
    return detections(
        logits.where(is_found, SILENT),
        boxes,
        candidates=model.rpn.candidates,
        iou=model.roi_heads.nms_thresh,
        count=model.roi_heads.detections_per_img,
    )


def training_pass(
    model: GeneralizedRCNN, images: Tensor, targets: Sequence[Targets]
) -> tuple[Losses, Pyramid]:
    """Return the class and box losses of both stages, and the pyramid they came from.

    Raises:
        NotFiniteError: If a proposal is not finite.
    """
    pyramid = encode(model, images)
    truth = torchvision_targets(targets, pyramid.hw, first_label=1)
    sizes = [pyramid.hw] * len(images)
    features = _features(pyramid)
    proposals, losses = model.rpn(ImageList(images, sizes), features, truth)
    require_finite(proposals=torch.cat(proposals))
    heads = model.roi_heads
    proposals = [
        p[~_in_ignored_areas(p, t, heads.proposal_matcher)]
        for p, t in zip(proposals, truth, strict=True)
    ]
    proposals, _, labels, deltas = heads.select_training_samples(proposals, truth)
    found = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, proposals, sizes)))
    if len(found[0]):
        classes, boxes = in_float32(fastrcnn_loss)(*found, labels, deltas)
    else:  # the mean over no proposal is not a number
        classes, boxes = (x.sum() for x in found)
    part = whole_batch.share(len(found[0]))
    classes, boxes = classes * part, boxes * part
    losses = {**losses, "loss_classifier": classes, "loss_box_reg": boxes}
    return loss_terms(losses), pyramid


def regions(model: GeneralizedRCNN, pyramid: Pyramid) -> Regions:
    """Return the proposals of the first stage, with what the second stage makes of them."""
    with torch.no_grad():
        proposals, alive = model.rpn.propose(pyramid)
    boxes = tuple(
        in_unit(row[kept], pyramid.hw) for row, kept in zip(proposals, alive, strict=True)
    )
    outputs = classify_regions(model, pyramid, boxes)
    kinds = torch.zeros(len(outputs.embeddings), dtype=torch.long, device=proposals.device)
    return Regions(boxes, outputs.embeddings, kinds)


def classify_regions(
    model: GeneralizedRCNN, pyramid: Pyramid, boxes: Sequence[Tensor]
) -> RegionOutputs:
    """Classify and refine given boxes, xyxy in [0, 1], (n, 4) an image."""
    heads = model.roi_heads
    proposals = [in_pixels(each, pyramid.hw) for each in boxes]
    sizes = [pyramid.hw] * len(proposals)
    pooled = heads.box_roi_pool(_features(pyramid), proposals, sizes)
    return _outputs(heads, pooled, torch.cat(proposals), pyramid.hw)


def embedding_width(model: GeneralizedRCNN) -> int:
    """Return the channels of a region's embedding: those of the second stage's last layer."""
    return int(model.roi_heads.box_predictor.cls_score.in_features)


def anchor_kinds(model: GeneralizedRCNN) -> int:
    """Return 1: a region has its own features, wherever its anchor lay."""
    del model
    return 1


def pooled_by_selection(pool: MultiScaleRoIAlign, pyramid: Pyramid, boxes: Tensor) -> Tensor:
    """Pool (B, P, 4), xyxy in pixels, as ``pool`` does, in operations of static shape.

    Every box is pooled from every level, and its own is selected.
    """
    batch, count = boxes.shape[:2]
    rois = boxes.flatten(0, 1)
    image = torch.arange(batch, device=boxes.device, dtype=boxes.dtype)
    rows = torch.cat([image.repeat_interleave(count)[:, None], rois], 1)
    chosen = levels_of(pool, rois)
    result = boxes.new_zeros(())
    for index, level in enumerate(pyramid.levels[: len(POOLED)]):
        stride = STRIDE << index
        each = roi_align(level, rows, pool.output_size, 1 / stride, pool.sampling_ratio)
        result = result + each * (chosen == index)[:, None, None, None]
    return result


def levels_of(pool: MultiScaleRoIAlign, boxes: Tensor) -> Tensor:
    """Return which level each box, xyxy in pixels, (N, 4), is pooled from, 0 for the finest."""
    finest = STRIDE.bit_length() - 1
    mapper = LevelMapper(finest, finest + len(POOLED) - 1, pool.canonical_scale)
    chosen: Tensor = mapper([boxes])
    return chosen


def _features(pyramid: Pyramid) -> dict[str, Tensor]:
    """Name the levels as torchvision does."""
    return OrderedDict(zip((*POOLED, "pool"), pyramid.levels, strict=True))


def _in_ignored_areas(boxes: Tensor, target: TorchvisionTarget, matcher: Any) -> Tensor:  # noqa: ANN401
    """Tell which proposals are neither an object's nor background."""
    areas = neutral(boxes, target, matcher)
    if len(target["boxes"]) and len(boxes):
        areas = areas & (matcher(box_iou(target["boxes"], boxes)) < 0)
    return areas


def _outputs(heads: RoIHeads, pooled: Tensor, boxes: Tensor, hw: tuple[int, int]) -> RegionOutputs:
    """Run the second stage on pooled boxes, xyxy in pixels, (N, 4)."""
    embeddings = heads.box_head(pooled)
    logits, deltas = heads.box_predictor(embeddings)
    refined = in_unit(heads.box_coder.decode_single(deltas, boxes).unflatten(1, (-1, 4)), hw)
    return RegionOutputs(
        features=pooled,
        embeddings=embeddings,
        logits=logits,
        deltas=deltas.unflatten(1, (-1, 4))[:, 1:],
        boxes=refined[:, 1:],
    )


__all__ = [
    "PRESETS",
    "anchor_kinds",
    "build",
    "build_from",
    "classify_regions",
    "embedding_width",
    "encode",
    "levels_of",
    "pooled_by_selection",
    "predict",
    "regions",
    "training_pass",
    "width",
]
