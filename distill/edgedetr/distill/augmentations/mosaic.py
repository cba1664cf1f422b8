"""Put parts of four frames into one picture (YOLOv4, sec. 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedetr.distill.picture import Picture, Window, cropped, joined, placed

if TYPE_CHECKING:
    import numpy as np

    from edgedetr.distill.augmentations import Material
    from edgedetr.distill.types import Targets

PROBABILITY = 0.5

NEAREST_EDGE = 0.3
"""How near the corner at which the four meet comes to an edge, as a share of the side."""

SMALLEST_PART = 0.5
"""Smallest part of a frame: this share of the sides of the largest one of its shape."""


def apply(picture: Picture, rng: np.random.Generator, material: Material) -> Picture:
    """Fill four rectangles that meet in a random point, the first from the picture itself."""
    if rng.random() >= PROBABILITY:
        return picture
    height, width = picture.hw
    down, across = rng.uniform(NEAREST_EDGE, 1 - NEAREST_EDGE, 2)
    y, x = round(height * down), round(width * across)
    rectangles = (
        Window(0, 0, y, x),
        Window(0, x, y, width - x),
        Window(y, 0, height - y, x),
        Window(y, x, height - y, width - x),
    )
    pixels = torch.empty_like(picture.pixels)
    parts: list[Targets] = []
    for place in rectangles:
        frame = material.draw(rng) if parts else picture
        part = _part(frame, (place.height, place.width), rng)
        rows = slice(place.top, place.top + place.height)
        pixels[:, rows, place.left : place.left + place.width] = part.pixels
        parts.append(placed(part.targets, place, picture.hw))
    return Picture(pixels, joined(parts, None))


def _part(frame: Picture, hw: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Cut a part of the shape of ``hw`` out of a frame, without padding, and resize it to that."""
    area = frame.content
    largest = min(area.height / hw[0], area.width / hw[1])
    factor = largest * rng.uniform(SMALLEST_PART, 1)
    rows, columns = (max(1, int(side * factor)) for side in hw)
    top = area.top + int(rng.integers(area.height - rows + 1))
    left = area.left + int(rng.integers(area.width - columns + 1))
    return cropped(frame, Window(top, left, rows, columns), hw)
