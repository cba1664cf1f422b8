"""RetinaNet (Lin et al., 2017) from torchvision: nine anchors a cell, focal loss.

The presets ``r18`` to ``x101`` are the published ones with group norms in the heads, which training
from scratch wants; the ``edge`` ones are ours: strides 4 to 64 and small anchors, for small inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead
from typing_extensions import override

from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.anchor_heads import (
    best_cells,
    chosen_cells,
    encode,
    in_unit,
    inputs_of,
    loss_terms,
    neutral,
    torchvision_targets,
    width,
)
from edgedetr.distill.networks.fpn import (
    EDGE_SMALL,
    EDGE_TINY,
    NarrowResNet,
    PyramidAnchors,
    pyramid_backbone,
)
from edgedetr.distill.networks.precision import in_float32
from edgedetr.distill.networks.static_nms import detections
from edgedetr.distill.networks.torchvision_model import (
    filled,
    published_anchors,
    published_network,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedetr.distill.networks.anchor_heads import TorchvisionTarget
    from edgedetr.distill.types import CellOutputs, Losses, Pyramid, Regions, Targets

OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RATIOS = (0.5, 1.0, 2.0)
GROUPS = 32


@dataclass(frozen=True)
class Preset:
    """Shape of a RetinaNet.

    Attributes:
        backbone: Own shape, or the name of a torchvision ResNet.
        width: Channels of the pyramid and of the heads, a multiple of 32.
        depth: Convolutions of each head, at most 4.
        finest_stride: Of the finest level.
        anchor: Side of the smallest square anchor of a level, in strides.
        candidates: How many of the best (anchor, class) pairs are looked at for duplicates.
    """

    backbone: NarrowResNet | str
    width: int = 256
    depth: int = 4
    finest_stride: int = 8
    anchor: float = 4.0
    candidates: int = 1000


PRESETS: dict[str, Preset] = {
    "edge-tiny": Preset(EDGE_TINY, 64, 2, 4, 2.0, 300),
    "edge-small": Preset(EDGE_SMALL, 64, 4, 4, 2.0, 300),
    "r18": Preset("resnet18"),
    "r50": Preset("resnet50"),
    "r101": Preset("resnet101"),
    "x101": Preset("resnext101_64x4d"),
}


def build(preset: str, num_classes: int) -> nn.Module:
    """Make a RetinaNet with fresh weights."""
    shape = PRESETS[preset]
    anchors = PyramidAnchors(
        shape.finest_stride, [shape.anchor * octave for octave in OCTAVES], RATIOS
    )
    model: nn.Module = RetinaNet(
        pyramid_backbone(shape.backbone, shape.width, shape.finest_stride),
        num_classes,
        anchor_generator=anchors,
        head=Head(shape.width, len(OCTAVES) * len(RATIOS), num_classes, shape.depth),
        topk_candidates=shape.candidates,
        detections_per_img=100,
    )
    return model


def build_from(
    config: Mapping[str, Any], num_classes: int, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Make torchvision's own RetinaNet, with the anchors that it has there."""
    model = published_network(config, num_classes)
    theirs, kinds = model.head, len(OCTAVES) * len(RATIOS)
    model.head = Head(model.backbone.out_channels, kinds, num_classes, PRESETS["r50"].depth)
    model.head.classification_head = theirs.classification_head
    model.head.regression_head = theirs.regression_head
    model.anchor_generator = published_anchors(model.anchor_generator)
    return filled(model, tensors)


class Head(RetinaNetHead):  # type: ignore[misc]
    """torchvision's heads, as deep as wanted and blind in ignored areas."""

    def __init__(self, width: int, kinds: int, num_classes: int, depth: int) -> None:
        super().__init__(width, kinds, num_classes, partial(nn.GroupNorm, GROUPS))
        for head in (self.classification_head, self.regression_head):
            head.conv = head.conv[:depth]

    @override
    def compute_loss(
        self,
        targets: list[TorchvisionTarget],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return both losses; anchors that would be background are left out where ``neutral``."""
        between = self.classification_head.BETWEEN_THRESHOLDS
        matched_idxs = [
            matched.masked_fill((matched < 0) & target["neutral"], between)
            for target, matched in zip(targets, matched_idxs, strict=True)
        ]
        losses: dict[str, Tensor] = super().compute_loss(
            targets, head_outputs, anchors, matched_idxs
        )
        part = len(targets) / whole_batch.images(len(targets))
        return {name: loss * part for name, loss in losses.items()}


def predict(model: RetinaNet, images: Tensor) -> tuple[Tensor, Tensor]:
    """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1]."""
    pyramid = encode(model, images)
    outputs = model.head(list(pyramid.levels))
    return detections(
        outputs["cls_logits"],
        _boxes(model, pyramid, outputs),
        candidates=model.topk_candidates,
        iou=model.nms_thresh,
        count=model.detections_per_img,
    )


def training_pass(
    model: RetinaNet, images: Tensor, targets: Sequence[Targets]
) -> tuple[Losses, Pyramid]:
    """Return the focal and the box loss, and the pyramid they came from."""
    pyramid = encode(model, images)
    levels = list(pyramid.levels)
    anchors = model.anchor_generator.on(levels, pyramid.hw)
    truth = torchvision_targets(targets, pyramid.hw)
    for target in truth:
        target["neutral"] = neutral(anchors, target, model.proposal_matcher)
    compute_loss = in_float32(model.compute_loss)
    losses = compute_loss(truth, model.head(levels), [anchors] * len(images))
    return loss_terms(losses), pyramid


def regions(model: RetinaNet, pyramid: Pyramid) -> Regions:
    """Return the boxes of the best anchors, with the last class feature of their cells."""
    with inputs_of(model.head.classification_head.cls_logits) as features:
        outputs = model.head(list(pyramid.levels))
    scores = outputs["cls_logits"].amax(-1)
    return best_cells(scores, _boxes(model, pyramid, outputs), features, anchor_kinds(model))


def cell_outputs(model: RetinaNet, pyramid: Pyramid, count: int) -> CellOutputs:
    """Return the outputs at the anchors of highest score, at most ``count`` an image."""
    outputs = model.head(list(pyramid.levels))
    return chosen_cells(outputs["cls_logits"], _boxes(model, pyramid, outputs), count)


def embedding_width(model: RetinaNet) -> int:
    """Return the channels of a region's embedding: those of the heads."""
    return width(model)


def anchor_kinds(model: RetinaNet) -> int:
    """Return the anchors of a cell."""
    return int(model.anchor_generator.num_anchors_per_location()[0])


def _boxes(model: RetinaNet, pyramid: Pyramid, outputs: dict[str, Tensor]) -> Tensor:
    """Decode every anchor of every image: xyxy in [0, 1], (B, N, 4)."""
    deltas = outputs["bbox_regression"]
    anchors = model.anchor_generator.on(pyramid.levels, pyramid.hw).repeat(len(deltas), 1)
    boxes = model.box_coder.decode_single(deltas.flatten(0, 1), anchors)
    return in_unit(boxes.reshape(deltas.shape), pyramid.hw)


__all__ = [
    "PRESETS",
    "anchor_kinds",
    "build",
    "build_from",
    "cell_outputs",
    "embedding_width",
    "encode",
    "predict",
    "regions",
    "training_pass",
    "width",
]
