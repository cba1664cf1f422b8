"""How far a tensor is from a reference, over frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

ON_PURPOSE = 1e30
"""Larger numbers in the reference stand for infinity, as attention masks write it."""
TINY = 1e-6
"""Smaller numbers count as this: no error there is large relative to them."""


@dataclass(frozen=True)
class Difference:
    """How far a tensor is from a reference; where either is not finite, numbers are left out.

    Attributes:
        relative: L2 norm of the difference relative to that of the reference.
        cosine: Cosine similarity of the two.
    """

    relative: float
    cosine: float

    @property
    def sqnr_db(self) -> float | None:
        """Signal to quantization noise ratio, in decibels; None where there is no noise."""
        return -20 * math.log10(self.relative) if 0 < self.relative < math.inf else None


class Comparison:
    """Compares a tensor with its reference over frames, without keeping either."""

    def __init__(self) -> None:
        self._noise = self._signal = self._other = self._product = 0.0
        self._size = 0
        self._misshapen = False

    def add(self, reference: np.ndarray, other: np.ndarray) -> None:
        """Add the values of one frame."""
        if reference.shape != other.shape:
            self._misshapen = True
            return
        a, b = reference.astype(np.float64).ravel(), other.astype(np.float64).ravel()
        keep = np.isfinite(a) & np.isfinite(b) & (np.abs(a) <= ON_PURPOSE)
        a, b = a[keep], b[keep]
        self._size += a.size
        self._noise += float(np.square(a - b).sum())
        self._signal += float(a @ a)
        self._other += float(b @ b)
        self._product += float(a @ b)

    def difference(self) -> Difference:
        """Return how far the two are apart over all frames."""
        if self._misshapen:
            return Difference(math.inf, 0.0)
        floor = self._size * TINY**2
        norms = math.sqrt(self._signal * self._other)
        cosine = self._product / norms if norms else float(not self._noise)
        noise = self._noise / (self._signal + floor) if self._noise else 0.0
        return Difference(math.sqrt(noise), cosine)
