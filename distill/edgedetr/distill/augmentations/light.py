"""Change brightness, contrast, saturation, hue and the order of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torchvision.transforms import v2

from edgedetr.distill.picture import Picture

if TYPE_CHECKING:
    import numpy as np

    from edgedetr.distill.augmentations import Material

_distort = v2.RandomPhotometricDistort(p=0.5)


def apply(picture: Picture, rng: np.random.Generator, _: Material) -> Picture:
    """Distort each of them in half of the pictures; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        return Picture(_distort(picture.pixels), picture.targets)
