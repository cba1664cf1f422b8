"""D-FINE (Peng et al., 2024) from transformers: fine-grained distribution refinement.

The presets from ``nano`` to ``xlarge`` follow the published sizes; the ``edge`` ones are ours, for
small inputs and 2-core machines. Every backbone starts without pre-trained weights, so its batch
norms stay live: frozen ones (transformers' default) stop all learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

from edgedetr.distill import real_time_detr
from edgedetr.distill.real_time_detr import (
    decode,
    encode,
    label_content,
    own_queries,
    predict,
    training_pass,
)

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Backbone:
    """Shape of an HGNetV2: channels of the stem and of the four stages (strides 4 to 32).

    Attributes:
        stem: Input, middle and output channels of the stem.
        mid: Channels inside each stage.
        out: Channels that leave each stage.
        blocks: Blocks of each stage.
        layers: Convolutions in each block.
        levels: How many of the last stages feed the encoder.
    """

    stem: tuple[int, int, int]
    mid: tuple[int, int, int, int]
    out: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int] = (1, 1, 1, 1)
    layers: tuple[int, int, int, int] = (3, 3, 3, 3)
    levels: int = 3


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


_B0 = Backbone((3, 16, 16), (16, 32, 64, 128), (64, 256, 512, 1024), (1, 1, 2, 1))
_B2 = Backbone((3, 24, 32), (32, 64, 128, 256), (96, 384, 768, 1536), (1, 1, 3, 1), (4, 4, 4, 4))
_B4 = Backbone((3, 32, 48), (48, 96, 192, 384), (128, 512, 1024, 2048), (1, 1, 3, 1), (6, 6, 6, 6))
_B5 = Backbone((3, 32, 64), (64, 128, 256, 512), (128, 512, 1024, 2048), (1, 2, 5, 2), (6, 6, 6, 6))
_NANO = Backbone(_B0.stem, _B0.mid, _B0.out, _B0.blocks, _B0.layers, levels=2)
_TINY = Backbone((3, 8, 16), (16, 16, 32, 48), (32, 96, 192, 256), layers=(2, 2, 2, 2))
_SMALL = Backbone((3, 16, 24), (24, 32, 64, 96), (64, 160, 320, 512), layers=(4, 4, 4, 4))

PRESETS: dict[str, Preset] = {
    "edge-tiny": Preset(_TINY, 96, 192, 2, 40, 20, 0.34, 0.5),
    "edge-small": Preset(_SMALL, 128, 384, 3, 60, 40, 0.67, 0.67),
    "nano": Preset(_NANO, 128, 512, 3, depth=0.5, expansion=0.34),
    "small": Preset(_B0, 256, 1024, 3, depth=0.34, expansion=0.5),
    "medium": Preset(_B2, 256, 1024, 4, depth=0.67),
    "large": Preset(_B4, 256, 1024, 6),
    "xlarge": Preset(_B5, 256, 2048, 6, encoder_width=384, decoder_ffn=1024),
}


def build(preset: str, num_classes: int) -> nn.Module:
    """Make a D-FINE with fresh weights."""
    shape = PRESETS[preset]
    width = shape.encoder_width or shape.width
    levels = shape.backbone.levels
    config = DFineConfig(
        backbone_config=_backbone_config(shape.backbone),
        freeze_backbone_batch_norms=False,
        num_labels=num_classes,
        num_feature_levels=levels,
        feat_strides=[8, 16, 32][-levels:],
        encode_proj_layers=[levels - 1],
        encoder_in_channels=list(shape.backbone.out[-levels:]),
        encoder_hidden_dim=width,
        encoder_ffn_dim=shape.ffn,
        decoder_in_channels=[width] * levels,
        d_model=shape.width,
        decoder_ffn_dim=shape.decoder_ffn or shape.ffn,
        decoder_layers=shape.layers,
        decoder_n_points=[3, 6, 3] if levels == 3 else [6, 6],
        num_queries=shape.queries,
        num_denoising=shape.denoising,
        depth_mult=shape.depth,
        hidden_expansion=shape.expansion,
    )
    return real_time_detr.prepared(DFineForObjectDetection(config))


def _backbone_config(shape: Backbone) -> HGNetV2Config:
    stages = range(5 - shape.levels, 5)
    return HGNetV2Config(
        stem_channels=list(shape.stem),
        stage_in_channels=[shape.stem[-1], *shape.out[:3]],
        stage_mid_channels=list(shape.mid),
        stage_out_channels=list(shape.out),
        stage_num_blocks=list(shape.blocks),
        stage_numb_of_layers=list(shape.layers),
        stage_downsample=[False, True, True, True],
        stage_light_block=[False, False, True, True],
        stage_kernel_size=[3, 3, 5, 5],
        use_learnable_affine_block=True,
        hidden_sizes=list(shape.out),
        depths=list(shape.blocks),
        out_indices=list(stages),
    )


__all__ = [
    "PRESETS",
    "build",
    "decode",
    "encode",
    "label_content",
    "own_queries",
    "predict",
    "training_pass",
]
