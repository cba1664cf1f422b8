"""LW-DETR (Chen et al., 2024) from transformers: a windowed vision transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import LwDetrConfig, LwDetrForObjectDetection

from edgedetr.distill.networks.decoder_hook import decoder_call, outputs_of
from edgedetr.distill.networks.transformers_model import config_from, network_from
from edgedetr.distill.types import Pyramid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from transformers import PreTrainedModel


def build_from(
    config: Mapping[str, Any], num_classes: int, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Make the model of a ``config.json``, see `ImportableModule`."""
    values = config_from(LwDetrConfig, config, num_classes)
    return network_from(LwDetrForObjectDetection, values, tensors)


def predict(model: PreTrainedModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1]."""
    outputs = model(pixel_values=images)
    return outputs.logits, outputs.pred_boxes


def encode(model: PreTrainedModel, images: Tensor) -> Pyramid:
    """Run backbone and projector on (B, 3, H, W); the decoder does not run."""
    core = model.model
    with outputs_of(core.backbone.projector) as seen, decoder_call(core.decoder, stop=True):
        core(pixel_values=images)
    return Pyramid(tuple(seen[0]), (int(images.shape[2]), int(images.shape[3])))


def width(model: PreTrainedModel) -> int:
    """Return the channels of the levels."""
    return int(model.config.d_model)
