"""Reparameterize a network as it is exported: fewer layers, the same numbers.

A RepVGG block trains a 3x3 and a 1x1 convolution side by side, each with its batch norm; once their
statistics stand still one convolution gives their sum (Ding et al., "RepVGG", CVPR 2021,
section 3.3). And the scale of an affine layer behind conv, norm and ReLU, where it is positive, is
a factor of that norm: ``s * relu(x) = relu(s * x)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from typing_extensions import override

from edgedetr.distill.networks.fake_quantization import folded

if TYPE_CHECKING:
    from torch import Tensor


@torch.no_grad()
def reparameterize(network: nn.Module) -> None:
    """Merge the layers that can be merged, in place.

    A scale that was absorbed is 1 from then on and is not trained any more, nor is one that cannot
    be: so a network can be trained on, merged again and loaded into a merged one.

    Args:
        network: What its batch norms have seen is final; it may be merged already.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if _is_repvgg(child):
                setattr(module, name, ReparameterizedBlock(child))
            elif _has_scale(child):
                _absorb_scale(child)


def is_reparameterized(network: nn.Module) -> bool:
    """Tell whether a network holds merged blocks."""
    return any(isinstance(module, ReparameterizedBlock) for module in network.modules())


def drop_absorbed_scales(network: nn.Module) -> None:
    """Drop the product with each scale that was absorbed, in place: for tracing alone."""
    for module in network.modules():
        if _has_scale(module):
            affine: Any = module.lab
            if affine.scale.item() == 1:
                module.lab = _Shift(affine.bias)


class ReparameterizedBlock(nn.Module):
    """One convolution in place of the two of a RepVGG block.

    Args:
        block: Its ``conv1`` is 3x3 and its ``conv2`` is 1x1, each a ``conv`` and a ``norm``.
    """

    def __init__(self, block: Any) -> None:  # noqa: ANN401 - each family has a class of its own
        super().__init__()
        (large, a), (small, b) = (folded(x.conv, x.norm) for x in (block.conv1, block.conv2))
        if large.shape[2:] != (3, 3) or small.shape[2:] != (1, 1) or a is None or b is None:
            raise ValueError(f"{type(block).__name__} is no RepVGG block of 3x3 and 1x1")
        inner = block.conv1.conv
        self.conv = nn.Conv2d(
            inner.in_channels, inner.out_channels, 3, inner.stride, 1, groups=inner.groups
        ).to(large)
        self.conv.weight.copy_(large + F.pad(small, (1, 1, 1, 1)))
        self.conv.bias.copy_(a + b)  # type: ignore[union-attr]
        self.activation = block.activation

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output for (B, C, H, W)."""
        out: Tensor = self.activation(self.conv(x))
        return out


class _Shift(nn.Module):
    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = bias

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


def _is_repvgg(module: nn.Module) -> bool:
    """Tell whether a module is a RepVGG block; LW-DETR calls two convolutions in turn one."""
    if not type(module).__name__.endswith("RepVggBlock"):
        return False
    second: Any = module.conv2
    return bool(second.conv.kernel_size == (1, 1))


def _has_scale(module: nn.Module) -> bool:
    """Tell whether a module ends in a learnable affine layer, as HGNetV2's convolutions do."""
    return hasattr(module, "normalization") and hasattr(getattr(module, "lab", None), "scale")


def _absorb_scale(layer: Any) -> None:  # noqa: ANN401 - a class of transformers
    scale = layer.lab.scale
    if isinstance(layer.activation, nn.ReLU) and scale.item() > 0:
        layer.normalization.weight.mul_(scale)
        layer.normalization.bias.mul_(scale)
        scale.fill_(1)
    scale.requires_grad_(requires_grad=False)
