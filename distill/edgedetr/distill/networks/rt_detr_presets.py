"""The sizes of RT-DETR and RT-DETRv2, which differ in how the decoder samples alone.

``r18`` to ``r101`` follow the published sizes; the ``edge`` ones are ours, with an HGNetV2. Every
backbone starts without pre-trained weights, so its batch norms stay live: frozen ones
(transformers' default) stop all learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgedetr.distill.networks.backbones import (
    EDGE_SMALL,
    EDGE_TINY,
    R18,
    R34,
    R50,
    R101,
    Backbone,
    ResNet,
    hgnet_config,
    resnet_d_config,
)


@dataclass(frozen=True)
class Preset:
    """Shape of an RT-DETR.

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
    "r18": Preset(R18, layers=3, expansion=0.5),
    "r34": Preset(R34, layers=4, expansion=0.5),
    "r50": Preset(R50),
    "r101": Preset(R101, encoder_width=384, encoder_ffn=2048),
}


def config_values(shape: Preset, num_classes: int) -> dict[str, Any]:
    """Return what transformers' configurations of both versions take."""
    backbone = shape.backbone
    channels = shape.encoder_width or shape.width
    return {
        "backbone_config": resnet_d_config(backbone, 3)
        if isinstance(backbone, ResNet)
        else hgnet_config(backbone),
        "freeze_backbone_batch_norms": False,
        "num_labels": num_classes,
        "encoder_in_channels": list(backbone.out[-3:]),
        "encoder_hidden_dim": channels,
        "encoder_ffn_dim": shape.encoder_ffn or shape.ffn,
        "hidden_expansion": shape.expansion,
        "decoder_in_channels": [channels] * 3,
        "d_model": shape.width,
        "decoder_ffn_dim": shape.ffn,
        "decoder_layers": shape.layers,
        "encoder_attention_heads": shape.heads,
        "decoder_attention_heads": shape.heads,
        "num_queries": shape.queries,
        "num_denoising": shape.denoising,
    }
