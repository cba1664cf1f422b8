"""Resize an image as PIL and torchvision do: every source pixel counts, however small it becomes.

A pixel of the result is a weighted mean of the source pixels around it, with a triangle as wide as
two pixels of the result, or of the source where that is larger. Rows are made first and rounded.
Weights are 16-bit integers, as torchvision's are for 8-bit images; PIL has finer ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AntialiasedResize:
    """Resizes images of one size to another; it keeps its tables."""

    def __init__(self, source_hw: tuple[int, int], made_hw: tuple[int, int]) -> None:
        """Make the tables of both sides, in pixels."""
        self._down, self._across = (
            None if source == made else triangle_table(source, made)
            for source, made in zip(source_hw, made_hw, strict=True)
        )

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the image, uint8 (H, W, 3), in its other size."""
        for axis, table in ((1, self._across), (0, self._down)):
            if table is not None:
                image = _resized(image, axis, *table)
        return np.ascontiguousarray(image)


def triangle_table(source: int, made: int) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
    """Return which source pixels each pixel is made of, (made, N), their weights, and their unit.

    The weights of a pixel add up to about ``1 << unit``; beyond the image they are 0.
    """
    scale = source / made
    reach = max(scale, 1.0)
    centre = (np.arange(made) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach + 0.5).astype(np.int64), source)
    pixels = first[:, None] + np.arange(int((last - first).max()))
    weights = np.maximum(1 - np.abs(pixels + 0.5 - centre[:, None]) / reach, 0)
    weights[pixels >= last[:, None]] = 0
    weights /= weights.sum(1, keepdims=True)
    unit = next(n for n in range(22) if int(0.5 + weights.max() * (2 << n)) >= 1 << 15)
    return np.minimum(pixels, source - 1), (0.5 + weights * (1 << unit)).astype(np.int32), unit


def _resized(
    image: NDArray[np.uint8],
    axis: int,
    pixels: NDArray[np.int64],
    weights: NDArray[np.int32],
    unit: int,
) -> NDArray[np.uint8]:
    shape = [1, 1, 1]
    shape[axis] = len(pixels)
    total = np.full((), 1 << (unit - 1), np.int32)  # rounds half up
    for column, weight in zip(pixels.T, weights.T, strict=True):
        total = total + image.take(column, axis) * weight.reshape(shape)
    rounded: NDArray[np.uint8] = np.clip(total >> unit, 0, 255).astype(np.uint8)
    return rounded
