"""Cut half of the pictures to a part of free shape around an object, as SSD and RT-DETR do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.distill.picture import Picture, Window, cropped

if TYPE_CHECKING:
    import numpy as np

    from edgedetr.distill.augmentations import Material

PROBABILITY = 0.5

ON_DEVICE = True

SMALLEST_SIDE = 0.3
"""Smallest side of the part, as a share of the picture's."""

WIDEST = 2.0
"""How many times the part may be as wide, or as high, for its height as the picture is."""

ATTEMPTS = 20


def apply(picture: Picture, rng: np.random.Generator, _: Material) -> Picture:
    """Stretch a part that keeps an object to the picture's size; leave it where none is found."""
    if rng.random() >= PROBABILITY:
        return picture
    height, width = picture.hw
    for _attempt in range(ATTEMPTS):
        down, across = rng.uniform(SMALLEST_SIDE, 1, 2)
        rows, columns = max(1, round(height * down)), max(1, round(width * across))
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        if not 1 / WIDEST <= across / down <= WIDEST:
            continue
        part = cropped(picture, Window(top, left, rows, columns), picture.hw)
        if len(part.targets.boxes) or not len(picture.targets.boxes):
            return part
    return picture
