"""A detector as torchvision publishes it, with parts that a graph of static shape can have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

from edgedetr.distill.networks.fpn import PublishedAnchors
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torchvision.models.detection.anchor_utils import AnchorGenerator

MODEL, EPS = "model", "norm_eps"
"""Keys of a config: torchvision's function, and what its frozen norms add to the variance."""
FAMILIES = {
    "fasterrcnn_resnet50_fpn": "faster_rcnn",
    "fasterrcnn_resnet50_fpn_v2": "faster_rcnn",
    "fcos_resnet50_fpn": "fcos",
    "retinanet_resnet50_fpn": "retinanet",
    "retinanet_resnet50_fpn_v2": "retinanet",
}
"""torchvision's functions whose models a family here has, and that family."""


def published_network(config: Mapping[str, Any], num_classes: int) -> Any:  # noqa: ANN401
    """Make torchvision's model with fresh weights.

    Args:
        config: `MODEL`, and `EPS` where its batch norms are frozen.
        num_classes: How many columns its class head has, the background's among them.

    Raises:
        ArtifactError: If torchvision has no such model, or no family here is like it.
    """
    name = config.get(MODEL)
    if name not in FAMILIES:
        raise ArtifactError(
            f"torchvision's {name!r} is no model that can be imported; those are "
            f"{', '.join(FAMILIES)}"
        )
    build = getattr(detection, str(name))
    model = build(weights=None, weights_backbone=None, num_classes=num_classes)
    if config.get(EPS) is not None:
        _freeze(model, float(config[EPS]))
    return model


def published_anchors(theirs: AnchorGenerator) -> PublishedAnchors:
    """Return the same anchors, laid out level by level."""
    return PublishedAnchors(theirs.sizes, theirs.aspect_ratios)


def filled(model: nn.Module, tensors: Mapping[str, Tensor] | None) -> nn.Module:
    """Fill a model with all of its weights, or leave the fresh ones; in evaluation mode.

    Raises:
        ArtifactError: If tensors are missing, left over or of another shape.
    """
    if tensors is not None:
        try:
            model.load_state_dict(dict(tensors))
        except RuntimeError as error:
            wrong = [line.strip() for line in str(error).splitlines()[1:]]
            raise ArtifactError(
                f"the weights do not fit torchvision's {type(model).__name__}: {wrong[0]} "
                f"({len(wrong)} problems); bring the whole file of the published model"
            ) from error
    return model.eval()


def _freeze(module: nn.Module, eps: float) -> None:
    """Replace the batch norms inside by frozen ones, as torchvision's published models have."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps))
        else:
            _freeze(child, eps)
