"""Shrink or enlarge the content of a picture by a large factor (Simple Copy-Paste, sec. 3)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from edgedetr.distill.picture import Picture, Window, cropped, placed

if TYPE_CHECKING:
    import numpy as np

    from edgedetr.distill.augmentations import Material

SMALLEST, LARGEST = 0.5, 2.0
"""Range of the factor; its logarithm is uniform."""


def apply(picture: Picture, rng: np.random.Generator, material: Material) -> Picture:
    """Enlarge a part to the picture's size, or shrink the whole and pad it with grey."""
    height, width = picture.hw
    factor = math.exp(rng.uniform(math.log(SMALLEST), math.log(LARGEST)))
    share = min(factor, 1 / factor)
    rows, columns = max(1, round(height * share)), max(1, round(width * share))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    window = Window(top, left, rows, columns)
    if factor >= 1:
        return cropped(picture, window, picture.hw)
    small = cropped(picture, Window(0, 0, height, width), (rows, columns))
    if small.targets.picture is None:
        whole = torch.tensor([[0.5, 0.5, 1.0, 1.0]])
        small = replace(small, targets=replace(small.targets, picture=whole))
    pixels = torch.full_like(picture.pixels, material.pad_value)
    pixels[:, top : top + rows, left : left + columns] = small.pixels
    return Picture(pixels, placed(small.targets, window, picture.hw))
