"""Shapes of the backbones that several families share, and the backbone of a built network."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torchvision.models._utils import IntermediateLayerGetter
from transformers import HGNetV2Config, ResNetConfig, RTDetrResNetConfig
from transformers.backbone_utils import BackboneMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


@dataclass(frozen=True)
class Backbone:
    """Shape of an HGNetV2: channels of the stem and of the stages (strides 4, 8, 16 and 32).

    Attributes:
        stem: Input, middle and output channels of the stem.
        mid: Channels inside each stage.
        out: Channels that leave each stage.
        blocks: Blocks of each stage.
        layers: Convolutions in each block.
        levels: How many of the last stages feed the encoder.
        kernels: Kernel size of each stage.
    """

    stem: tuple[int, int, int]
    mid: tuple[int, ...]
    out: tuple[int, ...]
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    layers: tuple[int, ...] = (3, 3, 3, 3)
    levels: int = 3
    kernels: tuple[int, ...] = (3, 3, 5, 5)


@dataclass(frozen=True)
class ResNet:
    """Shape of a ResNet or ResNet-D.

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


EDGE_TINY = Backbone((3, 8, 16), (16, 16, 32, 48), (32, 96, 192, 256), layers=(2, 2, 2, 2))
EDGE_SMALL = Backbone((3, 16, 24), (24, 32, 64, 96), (64, 160, 320, 512), layers=(4, 4, 4, 4))
B0 = Backbone((3, 16, 16), (16, 32, 64, 128), (64, 256, 512, 1024), (1, 1, 2, 1))
B0_TWO_LEVELS = replace(B0, levels=2)
B2 = Backbone((3, 24, 32), (32, 64, 128, 256), (96, 384, 768, 1536), (1, 1, 3, 1), (4, 4, 4, 4))
B4 = Backbone((3, 32, 48), (48, 96, 192, 384), (128, 512, 1024, 2048), (1, 1, 3, 1), (6, 6, 6, 6))
B5 = Backbone((3, 32, 64), (64, 128, 256, 512), (128, 512, 1024, 2048), (1, 2, 5, 2), (6, 6, 6, 6))

R18 = ResNet((2, 2, 2, 2), "basic")
R34 = ResNet((3, 4, 6, 3), "basic")
R50 = ResNet((3, 4, 6, 3), "bottleneck")
R101 = ResNet((3, 4, 23, 3), "bottleneck")


def hgnet_config(shape: Backbone) -> HGNetV2Config:
    """Return transformers' configuration of an HGNetV2."""
    stages = len(shape.out)
    return HGNetV2Config(
        stem_channels=list(shape.stem),
        stage_in_channels=[shape.stem[-1], *shape.out[:-1]],
        stage_mid_channels=list(shape.mid),
        stage_out_channels=list(shape.out),
        stage_num_blocks=list(shape.blocks[:stages]),
        stage_numb_of_layers=list(shape.layers[:stages]),
        stage_downsample=[False, True, True, True][:stages],
        stage_light_block=[False, False, True, True][:stages],
        stage_kernel_size=list(shape.kernels[:stages]),
        use_learnable_affine_block=True,
        hidden_sizes=list(shape.out),
        depths=list(shape.blocks[:stages]),
        out_indices=list(range(1 + stages - shape.levels, 1 + stages)),
    )


def resnet_config(shape: ResNet, levels: int) -> ResNetConfig:
    """Return transformers' configuration of a plain ResNet whose last stages feed an encoder."""
    return ResNetConfig(
        depths=list(shape.depths),
        hidden_sizes=list(shape.out),
        layer_type=shape.layer_type,
        out_indices=list(range(5 - levels, 5)),
    )


def resnet_d_config(shape: ResNet, levels: int) -> RTDetrResNetConfig:
    """Return transformers' configuration of RT-DETR's ResNet-D, as `resnet_config`."""
    return RTDetrResNetConfig(
        depths=list(shape.depths),
        hidden_sizes=list(shape.out),
        layer_type=shape.layer_type,
        out_indices=list(range(5 - levels, 5)),
    )


def backbone_of(network: nn.Module) -> nn.Module:
    """Return the part of a detector that image classification can pre-train.

    It is transformers' backbone, or the ``body`` of torchvision's, without any neck.
    """
    kinds = (BackboneMixin, IntermediateLayerGetter)
    return next(module for module in network.modules() if isinstance(module, kinds))  # type: ignore[no-any-return]


_STAGE = re.compile(
    r"(?:^|\.)(?:stages\.(?P<stage>\d+)|layer\.(?P<block>\d+)|layer(?P<layer>\d+))\."
)
_STEM = ("embed", "stem", "conv1", "bn1")


def stage_of(names: Sequence[str]) -> list[int]:
    """Return the stage of each parameter of a backbone: 0 is the stem, what follows all is last.

    The stages of a vision transformer are its blocks.

    >>> stage_of(["embedder.stem1.weight", "encoder.stages.0.bias", "layer2.0.bias", "norm.weight"])
    [0, 1, 2, 2]

    Args:
        names: Of all parameters, as ``named_parameters`` of `backbone_of` gives them.
    """
    found = [_STAGE.search(name) for name in names]
    numbers = [
        0 if match is None else int(match["layer"] or int(match["stage"]) + 1) for match in found
    ]
    last = max(numbers)
    return [
        last if match is None and not name.startswith(_STEM) else number
        for name, match, number in zip(names, found, numbers, strict=True)
    ]
