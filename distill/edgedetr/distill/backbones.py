"""Shapes of the backbones that several families share."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import HGNetV2Config


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


EDGE_TINY = Backbone((3, 8, 16), (16, 16, 32, 48), (32, 96, 192, 256), layers=(2, 2, 2, 2))
EDGE_SMALL = Backbone((3, 16, 24), (24, 32, 64, 96), (64, 160, 320, 512), layers=(4, 4, 4, 4))
B0 = Backbone((3, 16, 16), (16, 32, 64, 128), (64, 256, 512, 1024), (1, 1, 2, 1))
B0_TWO_LEVELS = Backbone(B0.stem, B0.mid, B0.out, B0.blocks, B0.layers, levels=2)
B2 = Backbone((3, 24, 32), (32, 64, 128, 256), (96, 384, 768, 1536), (1, 1, 3, 1), (4, 4, 4, 4))
B4 = Backbone((3, 32, 48), (48, 96, 192, 384), (128, 512, 1024, 2048), (1, 1, 3, 1), (6, 6, 6, 6))
B5 = Backbone((3, 32, 64), (64, 128, 256, 512), (128, 512, 1024, 2048), (1, 2, 5, 2), (6, 6, 6, 6))


def hgnet_config(shape: Backbone) -> HGNetV2Config:
    """Return transformers' configuration of a backbone."""
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
        out_indices=list(range(5 - shape.levels, 5)),
    )
