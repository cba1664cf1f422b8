"""D-FINE (Peng et al., 2024) from transformers: fine-grained distribution refinement.

The presets from ``nano`` to ``xlarge`` follow the published sizes; the ``edge`` ones are ours, for
small inputs and 2-core machines. Every backbone starts without pre-trained weights, so its batch
norms stay live: frozen ones (transformers' default) stop all learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import DFineConfig, DFineForObjectDetection
from transformers.activations import ACT2CLS
from transformers.models.d_fine.modeling_d_fine import DFineMLP

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

HEAD_ACTIVATION = "head_activation_function"
"""Key of an imported config that transformers does not have: what its heads compute with."""


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
    network = DFineForObjectDetection(configuration(preset, num_classes))
    prepared: nn.Module = real_time_detr.prepared(network)
    return prepared


def configuration(preset: str, num_classes: int) -> DFineConfig:
    """Return transformers' configuration of a preset."""
    shape = PRESETS[preset]
    channels = shape.encoder_width or shape.width
    levels = shape.backbone.levels
    return DFineConfig(
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


def build_from(
    config: Mapping[str, Any], num_classes: int, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Make the model of a ``config.json``, see `ImportableModule`; it has no query fade."""
    options = {key: value for key, value in config.items() if key != HEAD_ACTIVATION}
    values = config_from(DFineConfig, options, num_classes)
    network = network_from(DFineForObjectDetection, values, tensors)
    if HEAD_ACTIVATION in config:
        _activate_heads(network, config[HEAD_ACTIVATION])
    prepared: nn.Module = real_time_detr.prepared(network, fade=False)
    return prepared


def _activate_heads(network: DFineForObjectDetection, activation: str) -> None:
    """Give the heads another activation than ReLU, which transformers' D-FINE has in all."""
    model, decoder = network.model, network.model.decoder
    for owner, name in ((model, "enc_bbox_head"), (decoder, "query_pos_head")):
        layers = getattr(owner, name).layers
        head = DFineMLP(1, 1, 1, len(layers), activation)
        head.layers = layers
        setattr(owner, name, head)
    quality = [layer.reg_conf for layer in decoder.lqe_layers]
    for head in (decoder.pre_bbox_head, *decoder.bbox_embed, *quality):
        head.act = ACT2CLS[activation]()


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
