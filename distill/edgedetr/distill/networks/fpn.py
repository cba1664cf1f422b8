"""Backbones with a feature pyramid, and the anchors on it, for the convolutional families.

torchvision's modules in sizes of our own beside the published ones. Every one starts without
pre-trained weights, so batch norms are live, in the pyramid as well.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7
from torchvision.ops.misc import Conv2dNormActivation
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVELS = 5
"""Levels of every pyramid; each has half the resolution of the one before."""


@dataclass(frozen=True)
class NarrowResNet:
    """Shape of a ResNet of basic blocks with a small stem (one convolution of stride 2).

    Attributes:
        stem: Channels of the stem.
        widths: Channels of the four stages (strides 4 to 32).
        depths: Blocks of the four stages.
    """

    stem: int
    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


EDGE_TINY = NarrowResNet(16, (24, 48, 96, 128), (1, 1, 1, 1))
EDGE_SMALL = NarrowResNet(24, (32, 64, 128, 192), (1, 2, 2, 2))


def pyramid_backbone(shape: NarrowResNet | str, width: int, finest_stride: int) -> nn.Module:
    """Make a backbone that returns a dict of five levels of ``width`` channels, finest first.

    Args:
        shape: Own shape, or the name of a torchvision ResNet.
        width: Channels of the levels.
        finest_stride: 4 gives strides 4 to 64, the last one subsampled (Faster R-CNN); 8 gives
            strides 8 to 128, the last two convolved (RetinaNet, FCOS).
    """
    if isinstance(shape, NarrowResNet):
        body, channels = _narrow_resnet(shape), list(shape.widths)
    else:
        body = getattr(resnet, shape)(weights=None, norm_layer=nn.BatchNorm2d)
        channels = [body.inplanes >> (3 - stage) for stage in range(4)]
    first = {4: 0, 8: 1}[finest_stride]
    network: nn.Module = BackboneWithFPN(
        body,
        return_layers={f"layer{stage + 1}": str(stage - first) for stage in range(first, 4)},
        in_channels_list=channels[first:],
        out_channels=width,
        extra_blocks=LastLevelP6P7(width, width) if first else LastLevelMaxPool(),
        norm_layer=nn.BatchNorm2d,
    )
    return network


def _narrow_resnet(shape: NarrowResNet) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = Conv2dNormActivation(3, shape.stem, 3, stride=2)
    before = shape.stem
    for stage, (width, depth) in enumerate(zip(shape.widths, shape.depths, strict=True)):
        narrowed = nn.Sequential(resnet.conv1x1(before, width, stride=2), nn.BatchNorm2d(width))
        first = resnet.BasicBlock(before, width, stride=2, downsample=narrowed)
        rest = [resnet.BasicBlock(width, width) for _ in range(depth - 1)]
        layers[f"layer{stage + 1}"] = nn.Sequential(first, *rest)
        before = width
    return nn.Sequential(layers)


class PublishedAnchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors where torchvision's own models have them: its generator, level by level."""

    def on(self, levels: Sequence[Tensor], hw: tuple[int, int]) -> Tensor:
        """Return the anchors of all levels in turn, xyxy in pixels of the input, (N, 4).

        Of a level (B, D, H, W) they come row by row, all of a cell together.

        Args:
            levels: The pyramid.
            hw: Height and width of the input, in pixels.
        """
        self.set_cell_anchors(levels[0].dtype, levels[0].device)
        grids = [(int(level.shape[-2]), int(level.shape[-1])) for level in levels]
        return torch.cat(self.grid_anchors(grids, self.strides_on(grids, hw)))

    def strides_on(
        self, grids: Sequence[tuple[int, int]], hw: tuple[int, int]
    ) -> list[tuple[int, int]]:
        """Return the step down and across of each level's cells, in pixels."""
        return [(hw[0] // rows, hw[1] // columns) for rows, columns in grids]

    @override
    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return `on` once an image, as torchvision's modules want it."""
        height, width = image_list.tensors.shape[-2:]
        return [self.on(feature_maps, (height, width))] * len(image_list.image_sizes)


class PyramidAnchors(PublishedAnchors):
    """Anchors at the true strides of the levels.

    torchvision divides the input's size by the grid's, which misplaces the anchors of a coarse
    level that does not divide the input: 3 rows of stride 32 are 2 rows of stride 64, not of 48.

    Args:
        finest_stride: Of the first level; it doubles from level to level.
        scales: Sides of the square anchors of a cell, in strides.
        ratios: Height over width.
    """

    def __init__(
        self, finest_stride: int, scales: Sequence[float], ratios: Sequence[float]
    ) -> None:
        self.strides = [finest_stride << level for level in range(LEVELS)]
        super().__init__(
            tuple(tuple(s * stride for s in scales) for stride in self.strides),
            (tuple(ratios),) * LEVELS,
        )

    @override
    def strides_on(
        self, grids: Sequence[tuple[int, int]], hw: tuple[int, int]
    ) -> list[tuple[int, int]]:
        """Return the strides, whatever the input's size."""
        del grids, hw
        return [(stride, stride) for stride in self.strides]
