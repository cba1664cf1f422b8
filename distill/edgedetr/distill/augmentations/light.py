"""Change brightness, contrast, saturation, hue and the order of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedetr.distill.picture import changed
from edgedetr.distill.pixel_changes import Distort

if TYPE_CHECKING:
    import numpy as np

    from edgedetr.distill.augmentations import Material
    from edgedetr.distill.picture import Picture

ON_DEVICE = True


def apply(picture: Picture, rng: np.random.Generator, _: Material) -> Picture:
    """Distort each of them in half of the pictures; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        change = Distort.drawn(picture.pixels)
    return changed(picture, change, picture.targets)
