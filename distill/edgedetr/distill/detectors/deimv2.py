"""DEIMv2 (Huang et al., 2025) from transformers: D-FINE's decoder, matchability-aware loss.

The presets ``atto`` to ``x`` follow the published sizes: an HGNetV2 up to ``n``, a DINOv3 vision
transformer with a convolutional adapter above; the ``edge`` ones are ours, for small inputs and
2-core machines. Every backbone starts without pre-trained weights, so its batch norms stay live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import Deimv2Config, Deimv2ForObjectDetection, DINOv3ViTConfig

from edgedetr.distill.networks import real_time_detr
from edgedetr.distill.networks.backbones import (
    B0_TWO_LEVELS,
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

FOCAL_GAMMA = 1.5
"""Exponent of the matchability-aware loss (DEIM, Huang et al., 2025); transformers has 2."""


@dataclass(frozen=True)
class ViT:
    """Shape of a DINOv3 vision transformer of 12 layers and patches of 16 x 16 pixels.

    Attributes:
        width: Channels.
        ffn: Hidden channels of the feed-forward layers.
        taps: The three layers, counted from 1, whose tokens feed the encoder.
        adapter: Channels of the first convolution of the adapter that adds detail.
        distilled: Whether it is DEIMv2's own tiny ViT, which differs from DINOv3's in details.
        gated: Whether the feed-forward layers are gated.
    """

    width: int
    ffn: int
    taps: tuple[int, int, int]
    adapter: int = 16
    distilled: bool = False
    gated: bool = False


@dataclass(frozen=True)
class Preset:
    """Shape of a DEIMv2.

    Attributes:
        backbone: Shape of the backbone.
        width: Channels of encoder and decoder.
        ffn: Hidden channels of the encoder's feed-forward layers.
        layers: Decoder layers.
        queries: Queries, the most objects that a frame can hold.
        denoising: Denoising queries in training.
        depth: Multiplier of the encoder's blocks.
        expansion: Widening inside the encoder's blocks.
        decoder_ffn: Hidden channels of the decoder's feed-forward where they differ from ``ffn``.
        lite: Whether it has the encoder without attention, which makes two levels of one, and the
            decoder and loss that go with it.
    """

    backbone: Backbone | ViT
    width: int = 256
    ffn: int = 1024
    layers: int = 3
    queries: int = 300
    denoising: int = 100
    depth: float = 0.5
    expansion: float = 0.34
    decoder_ffn: int = 0
    lite: bool = False


ATTO = Backbone((3, 16, 16), (16, 32, 64), (64, 256, 256), (1, 1, 1), levels=1, kernels=(3, 3, 3))
FEMTO = Backbone((3, 16, 16), (16, 32, 64), (64, 256, 512), (1, 1, 1), levels=1)
PICO = Backbone((3, 16, 16), (16, 32, 64), (64, 256, 512), (1, 1, 2), levels=1)
VIT_TINY = ViT(192, 768, (4, 8, 12), distilled=True)
VIT_TINY_PLUS = ViT(256, 1024, (4, 8, 12), distilled=True)
VIT_S = ViT(384, 1536, (6, 9, 12), adapter=32)
VIT_S_PLUS = ViT(384, 1536, (6, 9, 12), adapter=64, gated=True)

PRESETS: dict[str, Preset] = {
    "edge-tiny": Preset(EDGE_TINY, 96, 192, 2, 40, 20, 0.34, 0.5),
    "edge-small": Preset(EDGE_SMALL, 128, 384, 3, 60, 40, 0.67, 0.67),
    "atto": Preset(ATTO, 64, 160, queries=100, lite=True),
    "femto": Preset(FEMTO, 96, 256, queries=150, lite=True),
    "pico": Preset(PICO, 112, 320, queries=200, lite=True),
    "n": Preset(B0_TWO_LEVELS, 128, 512),
    "s": Preset(VIT_TINY, 192, 512, 4, depth=0.67),
    "m": Preset(VIT_TINY_PLUS, 256, 512, 4, depth=1.0, expansion=0.67),
    "l": Preset(VIT_S, 224, 896, 4, depth=1.0, expansion=1.0, decoder_ffn=1792),
    "x": Preset(VIT_S_PLUS, 256, 1024, 6, depth=1.37, expansion=1.25, decoder_ffn=2048),
}


def build(preset: str, num_classes: int) -> nn.Module:
    """Make a DEIMv2 with fresh weights."""
    shape = PRESETS[preset]
    config = Deimv2Config(
        freeze_backbone_batch_norms=False,
        num_labels=num_classes,
        encoder_hidden_dim=shape.width,
        encoder_ffn_dim=shape.ffn,
        d_model=shape.width,
        decoder_ffn_dim=shape.decoder_ffn or shape.ffn,
        decoder_layers=shape.layers,
        decoder_activation_function="silu",
        num_queries=shape.queries,
        num_denoising=shape.denoising,
        depth_mult=shape.depth,
        hidden_expansion=shape.expansion,
        focal_loss_gamma=FOCAL_GAMMA,
        **(_backbone_values(shape.backbone, shape.width) | (_LITE if shape.lite else {})),
    )
    network: nn.Module = real_time_detr.prepared(Deimv2ForObjectDetection(config))
    return _without_hidden_patches(network)


def build_from(
    config: Mapping[str, Any], num_classes: int, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Make the model of a ``config.json``, see `ImportableModule`; it has no query fade."""
    values = config_from(Deimv2Config, config, num_classes)
    network = network_from(Deimv2ForObjectDetection, values, tensors)
    return _without_hidden_patches(real_time_detr.prepared(network, fade=False))


def _without_hidden_patches(network: nn.Module) -> nn.Module:
    """Freeze what a vision transformer has for hidden patches, which detection has none of."""
    for name, parameter in network.named_parameters():
        if name.endswith("embeddings.mask_token"):
            parameter.requires_grad = False
    return network


_LITE: dict[str, Any] = {
    "encoder_type": "lite",
    "encoder_layers": 0,
    "num_feature_levels": 2,
    "feat_strides": [16, 32],
    "decoder_n_points": [4, 2],
    "use_gateway": False,
    "share_bbox_head": True,
    "use_dense_one_to_one": False,
    "weight_loss_fgl": 0.0,
    "weight_loss_ddf": 0.0,
}


def _backbone_values(backbone: Backbone | ViT, width: int) -> dict[str, Any]:
    """Return the configuration's values for backbone and levels."""
    if isinstance(backbone, ViT):
        return {
            "backbone_config": _vit_config(backbone),
            "spatial_tuning_adapter_inplanes": backbone.adapter,
            "encoder_has_trailing_conv": False,
            "encoder_in_channels": [width] * 3,
            "decoder_in_channels": [width] * 3,
            "decoder_n_points": [3, 6, 3],
        }
    levels = backbone.levels
    return {
        "backbone_config": hgnet_config(backbone),
        "encoder_in_channels": list(backbone.out[-levels:]),
        "decoder_in_channels": [width] * max(levels, 2),
        "encode_proj_layers": [levels - 1],
        "num_feature_levels": levels,
        "feat_strides": [8, 16, 32][-levels:],
        "decoder_n_points": [3, 6, 3] if levels == 3 else [6, 6],
    }


def _vit_config(shape: ViT) -> DINOv3ViTConfig:
    return DINOv3ViTConfig(
        hidden_size=shape.width,
        intermediate_size=shape.ffn,
        num_attention_heads=shape.width // 64,
        layerscale_value=1.0 if shape.distilled else 1e-5,
        use_gated_mlp=shape.gated,
        num_register_tokens=0 if shape.distilled else 4,
        pos_embed_rescale=None if shape.distilled else 2.0,
        key_bias=not shape.distilled,
        out_indices=list(shape.taps),
        apply_layernorm=not shape.distilled,
    )


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
