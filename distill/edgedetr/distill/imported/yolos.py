"""YOLOS (Fang et al., 2021) from transformers: a vision transformer alone, with softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import YolosConfig, YolosForObjectDetection

from edgedetr.distill.networks.anchor_heads import sigmoid_logits
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
    values = config_from(YolosConfig, config, num_classes)
    return network_from(YolosForObjectDetection, values, tensors)


def predict(model: PreTrainedModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Detect in (B, 3, H, W): logits (B, Q, K) and boxes (B, Q, 4), cxcywh in [0, 1].

    The sigmoid of a logit is the score that transformers' softmax gives.
    """
    outputs = model(pixel_values=images)
    return sigmoid_logits(outputs.logits.softmax(-1)[..., :-1]), outputs.pred_boxes


def encode(model: PreTrainedModel, images: Tensor) -> Pyramid:
    """Return the tokens of the patches of (B, 3, H, W), in their grid."""
    side, extra = model.config.patch_size, model.config.num_detection_tokens
    grid = (int(images.shape[2]) // side, int(images.shape[3]) // side)
    tokens = model.vit(pixel_values=images).last_hidden_state[:, 1:-extra]
    levels = (tokens.transpose(1, 2).unflatten(2, grid),)
    return Pyramid(levels, (int(images.shape[2]), int(images.shape[3])))


def width(model: PreTrainedModel) -> int:
    """Return the channels of the levels."""
    return int(model.config.hidden_size)
