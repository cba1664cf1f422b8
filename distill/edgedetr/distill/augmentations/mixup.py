"""Blend two frames; the objects of both count (mixup as YOLOX and DEIM use it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torchvision.ops import box_convert

from edgedetr.distill.picture import Picture, joined

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from edgedetr.distill.augmentations import Material

PROBABILITY = 0.25

NEAR_HALF = 0.05
"""How far the share of either picture is from a half, at most: both must stay visible."""


def apply(picture: Picture, rng: np.random.Generator, material: Material) -> Picture:
    """Average the pixels of the picture and of another frame."""
    if rng.random() >= PROBABILITY:
        return picture
    share = 0.5 + rng.uniform(-NEAR_HALF, NEAR_HALF)
    other = material.draw(rng)
    mean = torch.lerp(other.pixels.float(), picture.pixels.float(), share)
    area = _around(picture.targets.picture, other.targets.picture)
    return Picture(mean.round().to(torch.uint8), joined([picture.targets, other.targets], area))


def _around(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Return the smallest area that holds those of both."""
    if one is None or other is None:
        return None
    corners = box_convert(torch.cat([one, other]), "cxcywh", "xyxy")
    low, high = corners[:, :2].amin(0), corners[:, 2:].amax(0)
    around: Tensor = box_convert(torch.cat([low, high])[None], "xyxy", "cxcywh")
    return around
