"""RT-DETR (Zhao et al., 2023) from transformers: hybrid encoder, deformable decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import RTDetrConfig, RTDetrForObjectDetection

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
    """Make an RT-DETR with fresh weights."""
    config = RTDetrConfig(**config_values(PRESETS[preset], num_classes))
    network: nn.Module = real_time_detr.prepared(RTDetrForObjectDetection(config))
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
