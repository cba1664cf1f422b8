"""How much each cell of a feature level counts: objects, background, and neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.detectors import Targets


def cell_weights(targets: Sequence[Targets], mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return foreground and background weight of each cell of one level, (B, H, W) each.

    A box of h x w cells (rounded outwards, both ends included, as FGD does) gives each of its cells
    ``1 / (h w)``; where boxes overlap the smallest wins. The background's cells share a mass of 1.
    Cells in ignored areas, and padded ones, have no weight, unless a box lies there.

    Args:
        targets: Truth of each image; boxes cxcywh in [0, 1] of the grid.
        mask: (B, H, W), True where a cell lies in the image.
    """
    foreground = mask.new_zeros(mask.shape, dtype=torch.float32)
    neutral = ~mask
    for row, target in enumerate(targets):
        if len(target.boxes):
            inside, count = _cells(target.boxes, mask.shape[1:])
            foreground[row] = (inside / count[:, None, None]).amax(0)
        if len(target.ignored):
            neutral[row] |= _cells(target.ignored, mask.shape[1:])[0].any(0)
    foreground = foreground * mask
    empty = (foreground == 0) & ~neutral
    background = empty / empty.sum((1, 2), keepdim=True).clamp(min=1)
    return foreground, background


def standardised(level: Tensor, mask: Tensor) -> Tensor:
    """Give each channel of (B, D, H, W) mean 0 and variance 1 over the cells of ``mask``.

    Args:
        level: One level of a memory.
        mask: (B, 1, H, W), True where a cell lies in the image.
    """
    inside = mask.to(level.dtype).flatten(2).transpose(1, 2)
    count = inside.sum(1, keepdim=True).clamp(min=1)
    cells = level.flatten(2)
    centred = cells - cells @ inside / count
    variance = centred.square() @ inside / count
    return (centred * torch.rsqrt(variance + 1e-6)).reshape(level.shape)


def _cells(boxes: Tensor, hw: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return which cells of a grid each box covers, (N, H, W), and how many h x w, (N,)."""
    height, width = hw
    scale = boxes.new_tensor([width, height])
    low = ((boxes[:, :2] - boxes[:, 2:] / 2) * scale).floor()
    high = ((boxes[:, :2] + boxes[:, 2:] / 2) * scale).ceil()
    x, y = (torch.arange(n, device=boxes.device) for n in (width, height))
    in_x = (x >= low[:, :1]) & (x <= high[:, :1])
    in_y = (y >= low[:, 1:]) & (y <= high[:, 1:])
    return in_y[:, :, None] & in_x[:, None, :], (high - low + 1).prod(1)
