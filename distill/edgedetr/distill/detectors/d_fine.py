"""D-FINE (Peng et al., 2024) from transformers: fine-grained distribution refinement.

The presets from ``nano`` to ``xlarge`` follow the published sizes; the ``edge`` ones are ours, for
small inputs and 2-core machines. Every backbone starts without pre-trained weights, so its batch
norms stay live: frozen ones (transformers' default) stop all learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import DFineConfig, DFineForObjectDetection

from edgedetr.distill.networks import real_time_detr
from edgedetr.distill.networks.backbones import (
    B0,
    B0_TWO_LEVELS,
    B2,
    B4,
    B5,
    EDGE_SMALL,
    EDGE_TINY,
    Backbone,
    hgnet_config,
)
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
from edgedetr.distill.networks.transformers_model import config_from, network_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


@dataclass(frozen=True)
class Preset:
    """Shape of a D-FINE.

    Attributes:
        backbone: Shape of the backbone.
        width: Channels of encoder and decoder.
        ffn: Hidden channels of the feed-forward layers.
        layers: Decoder layers.
        queries: Queries, the most objects that a frame can hold.
        denoising: Denoising queries in training.
        depth: Multiplier of the encoder's blocks.
        expansion: Widening inside the encoder's blocks.
        encoder_width: Channels of the encoder where they differ from ``width``.
        decoder_ffn: Hidden channels of the decoder's feed-forward where they differ from ``ffn``.
    """

    backbone: Backbone
    width: int = 256
    ffn: int = 1024
    layers: int = 3
    queries: int = 300
    denoising: int = 100
    depth: float = 1.0
    expansion: float = 1.0
    encoder_width: int = 0
    decoder_ffn: int = 0


PRESETS: dict[str, Preset] = {
    "edge-micro": Preset(EDGE_TINY, 80, 160, 2, 40, 20, 0.34, 0.5),
    "edge-tiny": Preset(EDGE_TINY, 96, 192, 2, 40, 20, 0.34, 0.5),
    "edge-small": Preset(EDGE_SMALL, 128, 384, 3, 60, 40, 0.67, 0.67),
    "nano": Preset(B0_TWO_LEVELS, 128, 512, 3, depth=0.5, expansion=0.34),
    "small": Preset(B0, 256, 1024, 3, depth=0.34, expansion=0.5),
    "medium": Preset(B2, 256, 1024, 4, depth=0.67),
    "large": Preset(B4, 256, 1024, 6),
    "xlarge": Preset(B5, 256, 2048, 6, encoder_width=384, decoder_ffn=1024),
}


def build(preset: str, num_classes: int) -> nn.Module:
    """Make a D-FINE with fresh weights."""
    shape = PRESETS[preset]
    channels = shape.encoder_width or shape.width
    levels = shape.backbone.levels
    config = DFineConfig(
        backbone_config=hgnet_config(shape.backbone),
        freeze_backbone_batch_norms=False,
        num_labels=num_classes,
        num_feature_levels=levels,
        feat_strides=[8, 16, 32][-levels:],
        encode_proj_layers=[levels - 1],
        encoder_in_channels=list(shape.backbone.out[-levels:]),
        encoder_hidden_dim=channels,
        encoder_ffn_dim=shape.ffn,
        decoder_in_channels=[channels] * levels,
        d_model=shape.width,
        decoder_ffn_dim=shape.decoder_ffn or shape.ffn,
        decoder_layers=shape.layers,
        decoder_n_points=[3, 6, 3] if levels == 3 else [6, 6],
        num_queries=shape.queries,
        num_denoising=shape.denoising,
        depth_mult=shape.depth,
        hidden_expansion=shape.expansion,
    )
    network: nn.Module = real_time_detr.prepared(DFineForObjectDetection(config))
    return network


def build_from(
    config: Mapping[str, Any], num_classes: int, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Make the model of a ``config.json``, see `ImportableModule`; it has no query fade."""
    values = config_from(DFineConfig, config, num_classes)
    network = network_from(DFineForObjectDetection, values, tensors)
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
