"""FCOS (Tian et al., 2019) from torchvision: no anchors, a centerness beside the classes.

The presets ``r18`` to ``x101`` are the published ones; the ``edge`` ones are ours: strides 4 to 64,
for small inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead
from typing_extensions import override

from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.anchor_heads import (
    best_cells,
    chosen_cells,
    encode,
    in_unit,
    inputs_of,
    loss_terms,
    sigmoid_logits,
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
from edgedetr.distill.networks.layer_losses import SILENT_LOGIT
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


@dataclass(frozen=True)
class Preset:
    """Shape of an FCOS.

    Attributes:
        backbone: Own shape, or the name of a torchvision ResNet.
        width: Channels of the pyramid and of the heads, a multiple of 32.
        depth: Convolutions of each head.
        finest_stride: Of the finest level.
        candidates: How many of the best (location, class) pairs are looked at for duplicates.
    """

    backbone: NarrowResNet | str
    width: int = 256
    depth: int = 4
    finest_stride: int = 8
    candidates: int = 1000


PRESETS: dict[str, Preset] = {
    "edge-tiny": Preset(EDGE_TINY, 64, 2, 4, 300),
    "edge-small": Preset(EDGE_SMALL, 64, 4, 4, 300),
    "r18": Preset("resnet18"),
    "r50": Preset("resnet50"),
    "r101": Preset("resnet101"),
    "x101": Preset("resnext101_64x4d"),
}


def build(preset: str, num_classes: int) -> nn.Module:
    """Make an FCOS with fresh weights."""
    shape = PRESETS[preset]
    model: nn.Module = FCOS(
        pyramid_backbone(shape.backbone, shape.width, shape.finest_stride),
        num_classes,
        anchor_generator=PyramidAnchors(shape.finest_stride, [1.0], [1.0]),
        head=Head(shape.width, 1, num_classes, shape.depth),
        topk_candidates=shape.candidates,
    )
    return model


def build_from(
    config: Mapping[str, Any], num_classes: int, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Make torchvision's own FCOS, with the anchors that it has there."""
    model = published_network(config, num_classes)
    head = Head(model.backbone.out_channels, 1, num_classes, PRESETS["r50"].depth)
    model.head, model.anchor_generator = head, published_anchors(model.anchor_generator)
    return filled(model, tensors)


class Head(FCOSHead):  # type: ignore[misc]
    """torchvision's heads, blind in ignored areas."""

    @override
    def compute_loss(
        self,
        targets: list[TorchvisionTarget],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the losses; locations that would be background are silent where ``neutral``.

        Box and centerness have losses at matched locations alone.
        """
        silent = torch.stack(
            [(m < 0) & t["neutral"] for t, m in zip(targets, matched_idxs, strict=True)]
        )
        logits = head_outputs["cls_logits"].masked_fill(silent.unsqueeze(-1), SILENT_LOGIT)
        losses: dict[str, Tensor] = super().compute_loss(
            targets, {**head_outputs, "cls_logits": logits}, anchors, matched_idxs
        )
        part = whole_batch.share(sum(int((m >= 0).sum()) for m in matched_idxs), least=1)
        return {name: loss * part for name, loss in losses.items()}


def predict(model: FCOS, images: Tensor) -> tuple[Tensor, Tensor]:
    """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1]."""
    pyramid = encode(model, images)
    outputs = model.head(list(pyramid.levels))
    return detections(
        sigmoid_logits(_scores(outputs)),
        _boxes(model, pyramid, outputs),
        candidates=model.topk_candidates,
        iou=model.nms_thresh,
        count=model.detections_per_img,
    )


def training_pass(
    model: FCOS, images: Tensor, targets: Sequence[Targets]
) -> tuple[Losses, Pyramid]:
    """Return the focal, box and centerness losses, and the pyramid they came from."""
    pyramid = encode(model, images)
    levels = list(pyramid.levels)
    anchors = model.anchor_generator.on(levels, pyramid.hw)
    truth = torchvision_targets(targets, pyramid.hw)
    for target in truth:
        target["neutral"] = _inside(anchors, target["ignored"])
    cells = [level.shape[-2] * level.shape[-1] for level in levels]
    compute_loss = in_float32(model.compute_loss)
    losses = compute_loss(truth, model.head(levels), [anchors] * len(images), cells)
    return loss_terms(losses), pyramid


def regions(model: FCOS, pyramid: Pyramid) -> Regions:
    """Return the boxes of the best locations, with the last class feature there."""
    with inputs_of(model.head.classification_head.cls_logits) as features:
        outputs = model.head(list(pyramid.levels))
    scores = _scores(outputs).amax(-1)
    return best_cells(scores, _boxes(model, pyramid, outputs), features, anchor_kinds(model))


def cell_outputs(model: FCOS, pyramid: Pyramid, count: int) -> CellOutputs:
    """Return the outputs at the locations of highest score, at most ``count`` an image."""
    outputs = model.head(list(pyramid.levels))
    return chosen_cells(sigmoid_logits(_scores(outputs)), _boxes(model, pyramid, outputs), count)


def embedding_width(model: FCOS) -> int:
    """Return the channels of a region's embedding: those of the heads."""
    return width(model)


def anchor_kinds(model: FCOS) -> int:
    """Return 1: a location has one box."""
    del model
    return 1


def _scores(outputs: dict[str, Tensor]) -> Tensor:
    """Return the geometric mean of class probability and centerness, (B, N, K)."""
    scores: Tensor = (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()
    return scores


def _boxes(model: FCOS, pyramid: Pyramid, outputs: dict[str, Tensor]) -> Tensor:
    """Decode every location of every image: xyxy in [0, 1], (B, N, 4)."""
    anchors = model.anchor_generator.on(pyramid.levels, pyramid.hw)
    return in_unit(model.box_coder.decode(outputs["bbox_regression"], anchors), pyramid.hw)


def _inside(anchors: Tensor, areas: Tensor) -> Tensor:
    """Tell which locations (N,), the middles of anchors, lie in one of the areas (M, 4)."""
    middle = (anchors[:, None, :2] + anchors[:, None, 2:]) / 2
    return ((middle >= areas[:, :2]) & (middle <= areas[:, 2:])).all(-1).any(-1)


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
