"""RT-DETRv2 (Lv et al., 2024) from transformers: hybrid encoder, deformable decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from torch import nn


def build(preset: str, num_classes: int) -> nn.Module:
    """Make an RT-DETRv2 with fresh weights."""
    config = RTDetrV2Config(**config_values(PRESETS[preset], num_classes))
    network: nn.Module = real_time_detr.prepared(RTDetrV2ForObjectDetection(config))
    return network


__all__ = [
    "PRESETS",
    "anchor_kinds",
    "build",
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
