"""Resize an image as PIL and torchvision do: every source pixel counts, however small it becomes.

A pixel of the result is a weighted mean of the source pixels around it, with a triangle as wide as
two pixels of the result, or of the source where that is larger. Rows are made first and rounded.
Weights are 16-bit integers, as torchvision's are for 8-bit images; PIL has finer ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_UNIT = 22
"""So that a sum of bytes stays within 31 bits."""


class AntialiasedResize:
    """Resizes images of one size to another; it keeps its tables and buffers.

    What it returns is its own, and valid until the next call.
    """

    def __init__(self, source_hw: tuple[int, int], made_hw: tuple[int, int]) -> None:
        """Make the tables of both sides, in pixels."""
        (height, width), (lines, columns) = source_hw, made_hw
        self._across = None if width == columns else _Rows(width, columns, 3 * height)
        self._down = None if height == lines else _Rows(height, lines, 3 * columns)
        self._turned = np.empty((width, height, 3), np.uint8)
        self._narrow = np.empty((height, columns, 3), np.uint8)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the image, uint8 (H, W, 3), in its other size."""
        if self._across:
            cv2.transpose(image, self._turned)  # columns as rows, which lie together in memory
            columns = self._across(self._turned)
            cv2.transpose(columns.reshape(-1, len(image), 3), self._narrow)
            image = self._narrow
        if self._down:
            image = self._down(image).reshape(-1, *image.shape[1:])
        return np.ascontiguousarray(image)


class _Rows:
    """Makes a number of rows from another, each a weighted sum of some that follow each other."""

    def __init__(self, source: int, made: int, length: int) -> None:
        """Make the table and buffers for rows of ``length`` samples."""
        pixels, weights, self._unit = triangle_table(source, made)
        most = int(weights.sum(1).max()) * 255 + (1 << self._unit)
        exact = np.float32 if most < 1 << 24 else np.float64  # holds every sum of integers exactly
        self._parts = []
        for places, parts in zip(pixels, weights, strict=True):
            kept = np.flatnonzero(parts)
            first = int(places[kept[0]])
            used = parts[kept[0] : kept[-1] + 1].astype(exact)
            self._parts.append((slice(first, first + len(used)), used))
        self._source = np.empty((source, length), exact)
        self._sums = np.empty((made, length), exact)
        self._made = np.empty((made, length), np.uint8)

    def __call__(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the rows, uint8 (made, length), of as many as the source has, of any shape."""
        sums = self._sums
        np.copyto(self._source, rows.reshape(self._source.shape))
        for total, (places, weights) in zip(sums, self._parts, strict=True):
            np.dot(weights, self._source[places], out=total)
        sums += 1 << (self._unit - 1)  # rounds half up
        sums *= 2.0**-self._unit
        np.minimum(sums, 255, out=sums)
        np.copyto(self._made, sums, casting="unsafe")
        return self._made


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
    enough = (n for n in range(_MOST_UNIT) if int(0.5 + weights.max() * (2 << n)) >= 1 << 15)
    unit = next(enough, _MOST_UNIT)
    return np.minimum(pixels, source - 1), (0.5 + weights * (1 << unit)).astype(np.int32), unit
