"""Enlarge a part of half of the pictures, aspect ratio kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.distill.picture import Picture, Window, cropped

if TYPE_CHECKING:
    import numpy as np

    from edgedetr.distill.augmentations import Material

PROBABILITY = 0.5

ON_DEVICE = True

SMALLEST_CROP = 0.6
"""Smallest side of the part, as a share of the picture's."""


def apply(picture: Picture, rng: np.random.Generator, _: Material) -> Picture:
    """Cut out a part anywhere and enlarge it to the picture's size."""
    if rng.random() >= PROBABILITY:
        return picture
    height, width = picture.hw
    side = rng.uniform(SMALLEST_CROP, 1)
    crop_hw = round(height * side), round(width * side)
    top, left = (
        int(rng.integers(n - c + 1)) for n, c in zip((height, width), crop_hw, strict=True)
    )
    return cropped(picture, Window(top, left, *crop_hw), (height, width))
