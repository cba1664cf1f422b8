"""RT-DETRv2 (Lv et al., 2024) from transformers: hybrid encoder, deformable decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import RTDetrV2Config, RTDetrV2ForObjectDetection

from edgedetr.distill.networks import real_time_detr
from edgedetr.distill.networks.real_time_detr import (
    anchor_kinds,
    decode,
    embedding_width,
    encode,
    label_content,
    place_content,
    predict,
    regions,
    training_pass,
    width,
)
from edgedetr.distill.networks.rt_detr_presets import PRESETS, config_values
from edgedetr.distill.networks.transformers_model import config_from, network_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


def build(preset: str, num_classes: int) -> nn.Module:
    """Make an RT-DETRv2 with fresh weights."""
    config = RTDetrV2Config(**config_values(PRESETS[preset], num_classes))
    network: nn.Module = real_time_detr.prepared(RTDetrV2ForObjectDetection(config))
    return network


def build_from(
    config: Mapping[str, Any], num_classes: int, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Make the model of a ``config.json``, see `ImportableModule`; it has no query fade."""
    values = config_from(RTDetrV2Config, config, num_classes)
    network = network_from(RTDetrV2ForObjectDetection, values, tensors)
    prepared: nn.Module = real_time_detr.prepared(network, fade=False)
    return prepared


__all__ = [
    "PRESETS",
    "anchor_kinds",
    "build",
    "build_from",
    "decode",
    "embedding_width",
    "encode",
    "label_content",
    "place_content",
    "predict",
    "regions",
    "training_pass",
    "width",
]
