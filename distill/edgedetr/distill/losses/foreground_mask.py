"""Foreground mask: what each cell of a feature level weighs as object and as background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from edgedetr.distill.networks.precision import in_float32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.types import Targets

EPSILON = 1e-6
"""What is added to a variance before it divides."""


def cell_weights(targets: Sequence[Targets], mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return foreground and background weight of each cell of one level, (B, H, W) each.

    A box of h x w cells (rounded outwards, both ends included, as FGD does) gives each of its cells
    ``1 / (h w)``; where boxes overlap the smallest wins. The background's cells share a mass of 1.
    Cells in ignored areas have no weight, unless a box lies there; padded ones have none at all.

    Args:
        targets: Truth of each image; boxes cxcywh in [0, 1] of the grid.
        mask: (B, H, W), True where the network has a cell; padding that the targets know of is
            left out besides.
    """
    mask = mask & _pictures(targets, mask)
    foreground = mask.new_zeros(mask.shape, dtype=torch.float32)
    neutral = ~mask
    if any(len(t.boxes) for t in targets):
        inside, count = _cells([t.boxes for t in targets], mask.shape[1:])
        foreground = torch.where(inside, 1 / count, 0).amax(1)
    if any(len(t.ignored) for t in targets):
        neutral = neutral | _cells([t.ignored for t in targets], mask.shape[1:])[0].any(1)
    foreground = foreground * mask
    empty = (foreground == 0) & ~neutral
    background = empty / empty.sum((1, 2), keepdim=True).clamp(min=1)
    return foreground, background


@in_float32
def standardised(level: Tensor, mask: Tensor) -> Tensor:
    """Give each channel of (B, D, H, W) mean 0 and variance 1 over the cells of ``mask``.

    Args:
        level: One level of a memory.
        mask: (B, 1, H, W), True where a cell lies in the image.
    """
    shares = mask.to(level.dtype).flatten(2)
    shares = shares / shares.sum(2, keepdim=True).clamp(min=1)
    cells = level.flatten(2).transpose(1, 2)  # channels last, as they mostly lie in memory
    centred = cells - shares @ cells
    variance = shares @ centred.square()
    return (centred * torch.rsqrt(variance + EPSILON)).transpose(1, 2).reshape(level.shape)


def _pictures(targets: Sequence[Targets], mask: Tensor) -> Tensor:
    """Tell which cells have their centre in the picture of each image, (B, H, W)."""
    if all(t.picture is None for t in targets):
        return torch.ones_like(mask)
    whole = torch.tensor([[0.5, 0.5, 1.0, 1.0]], device=mask.device)
    areas = torch.stack([whole if t.picture is None else t.picture for t in targets])
    inside = []
    for axis, count in enumerate(mask.shape[:0:-1]):
        centres = (torch.arange(count, device=mask.device) + 0.5) / count
        inside.append((centres - areas[..., axis]).abs() * 2 <= areas[..., axis + 2])
    return inside[1][:, :, None] & inside[0][:, None]


def _cells(boxes: Sequence[Tensor], hw: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return which cells of a grid each image's boxes cover, and how many h x w.

    Args:
        boxes: Of each image, cxcywh in [0, 1] of the grid.
        hw: The grid's height and width.

    Returns:
        Cells (B, G, H, W), none where an image has fewer than G boxes, and counts (B, G, 1, 1).
    """
    height, width = hw
    padded = pad_sequence(list(boxes), batch_first=True, padding_value=torch.nan)  # covers nothing
    scale = padded.new_tensor([width, height])
    low = ((padded[..., :2] - padded[..., 2:] / 2) * scale).floor()
    high = ((padded[..., :2] + padded[..., 2:] / 2) * scale).ceil()
    x, y = (torch.arange(n, device=padded.device) for n in (width, height))
    in_x = (x >= low[..., :1]) & (x <= high[..., :1])
    in_y = (y >= low[..., 1:]) & (y <= high[..., 1:])
    count = (high - low + 1).prod(-1)
    return in_y.unsqueeze(-1) & in_x.unsqueeze(-2), count[..., None, None]
