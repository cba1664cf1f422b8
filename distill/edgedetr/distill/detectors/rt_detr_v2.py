"""RT-DETRv2 (Lv et al., 2024) from transformers: hybrid encoder, deformable decoder.

The presets ``r18`` to ``r101`` follow the published sizes; the ``edge`` ones are ours, with an
HGNetV2. Every backbone starts without pre-trained weights, so its batch norms stay live: frozen
ones (transformers' default) stop all learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

from edgedetr.distill import real_time_detr
from edgedetr.distill.backbones import EDGE_SMALL, EDGE_TINY, Backbone, hgnet_config
from edgedetr.distill.real_time_detr import (
    anchor_kinds,
    decode,
    embedding_width,
    encode,
    label_content,
    predict,
    regions,
    training_pass,
    width,
)

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ResNet:
    """Shape of RT-DETR's ResNet-D.

    Attributes:
        depths: Blocks of the four stages.
        layer_type: ``basic`` (two 3x3 convolutions) or ``bottleneck``.
    """

    depths: tuple[int, int, int, int]
    layer_type: str

    @property
    def out(self) -> tuple[int, ...]:
        """Channels that leave each stage."""
        return tuple(c * (1 if self.layer_type == "basic" else 4) for c in (64, 128, 256, 512))


@dataclass(frozen=True)
class Preset:
    """Shape of an RT-DETRv2.

    Attributes:
        backbone: Shape of the backbone; its last three stages feed the encoder.
        width: Channels of encoder and decoder.
        ffn: Hidden channels of the feed-forward layers.
        layers: Decoder layers.
        expansion: Widening inside the encoder's blocks.
        queries: Queries, the most objects that a frame can hold.
        denoising: Denoising queries in training.
        encoder_width: Channels of the encoder where they differ from ``width``.
        encoder_ffn: Its feed-forward where it differs from ``ffn``.
        heads: Attention heads; ``width / heads`` is a power of two.
    """

    backbone: Backbone | ResNet
    width: int = 256
    ffn: int = 1024
    layers: int = 6
    expansion: float = 1.0
    queries: int = 300
    denoising: int = 100
    encoder_width: int = 0
    encoder_ffn: int = 0
    heads: int = 8


PRESETS: dict[str, Preset] = {
    "edge-tiny": Preset(EDGE_TINY, 96, 192, 2, 0.5, 40, 20, heads=6),
    "edge-small": Preset(EDGE_SMALL, 128, 384, 3, 0.5, 60, 40),
    "r18": Preset(ResNet((2, 2, 2, 2), "basic"), layers=3, expansion=0.5),
    "r34": Preset(ResNet((3, 4, 6, 3), "basic"), layers=4, expansion=0.5),
    "r50": Preset(ResNet((3, 4, 6, 3), "bottleneck")),
    "r101": Preset(ResNet((3, 4, 23, 3), "bottleneck"), encoder_width=384, encoder_ffn=2048),
}


def build(preset: str, num_classes: int) -> nn.Module:
    """Make an RT-DETRv2 with fresh weights."""
    shape = PRESETS[preset]
    backbone = shape.backbone
    channels = shape.encoder_width or shape.width
    config = RTDetrV2Config(
        backbone_config=_resnet_config(backbone)
        if isinstance(backbone, ResNet)
        else hgnet_config(backbone),
        freeze_backbone_batch_norms=False,
        num_labels=num_classes,
        encoder_in_channels=list(backbone.out[-3:]),
        encoder_hidden_dim=channels,
        encoder_ffn_dim=shape.encoder_ffn or shape.ffn,
        hidden_expansion=shape.expansion,
        decoder_in_channels=[channels] * 3,
        d_model=shape.width,
        decoder_ffn_dim=shape.ffn,
        decoder_layers=shape.layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        num_queries=shape.queries,
        num_denoising=shape.denoising,
    )
    network: nn.Module = real_time_detr.prepared(RTDetrV2ForObjectDetection(config))
    return network


def _resnet_config(shape: ResNet) -> RTDetrResNetConfig:
    return RTDetrResNetConfig(
        depths=list(shape.depths),
        hidden_sizes=list(shape.out),
        layer_type=shape.layer_type,
        out_features=["stage2", "stage3", "stage4"],
    )


__all__ = [
    "PRESETS",
    "anchor_kinds",
    "build",
    "decode",
    "embedding_width",
    "encode",
    "label_content",
    "predict",
    "regions",
    "training_pass",
    "width",
]
