"""A histogram of magnitudes, filled in one pass, whose size does not grow with the data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 2048
_BLOCK = 1 << 16
_LEAST_EXPONENT = -100


class Histogram:
    """Counts of |x| in equal bins of [0, limit).

    ``limit`` is the power of two next above the largest magnitude seen. When a larger one comes it
    doubles and neighbouring bins merge, so the edges nest and the counts depend neither on the
    order of the values nor on how they were split. Magnitudes of 2**-100 and less share a bin.

    Attributes:
        counts: int64 (`BINS`,).
        below: Likewise, of the negative values alone.
        limit: Upper end of the last bin; 0 while everything seen was 0.
        max: The largest magnitude seen.
        low: The least value seen, or 0.
        high: The largest value seen, or 0.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.below = np.zeros(BINS, np.int64)
        self.limit = 0.0
        self.max = 0.0
        self.low = 0.0
        self.high = 0.0

    @property
    def width(self) -> float:
        """Width of a bin."""
        return self.limit / BINS

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of an array of any shape, which is not changed.

        Raises:
            ValueError: If a value is not finite; nothing was counted then.
        """
        if not values.size:
            return
        high, low = float(values.max()), float(values.min())
        largest = max(high, -low)
        if not math.isfinite(largest):
            raise ValueError("a value is not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(largest)
        factor = np.float32(BINS / self.limit) if self.limit else np.float32(0)
        flat = values.reshape(-1)
        magnitudes = np.empty(min(_BLOCK, flat.size), np.float32)
        bins = np.empty(magnitudes.size, np.intp)
        for start in range(0, flat.size, _BLOCK):
            block = flat[start : start + _BLOCK]
            magnitude, index = magnitudes[: block.size], bins[: block.size]
            np.abs(block, out=magnitude)
            magnitude *= factor
            index[:] = magnitude
            self.counts += np.bincount(index, minlength=BINS)
            if low < 0:
                self.below += np.bincount(index[block < 0], minlength=BINS)

    def _widen(self, largest: float) -> None:
        """Double the range until ``largest`` lies inside."""
        self.max = max(self.max, largest)
        if largest == 0 or largest < self.limit:
            return
        limit = 2.0 ** max(math.frexp(largest)[1], _LEAST_EXPONENT)
        merge = BINS if self.limit == 0 else int(min(BINS, limit / self.limit))
        self.counts, self.below = _merged(self.counts, merge), _merged(self.below, merge)
        self.limit = limit


def _merged(counts: NDArray[np.int64], merge: int) -> NDArray[np.int64]:
    """Add up neighbouring bins; the upper ones become empty."""
    merged = np.zeros(BINS, np.int64)
    merged[: BINS // merge] = counts.reshape(-1, merge).sum(axis=1)
    return merged
