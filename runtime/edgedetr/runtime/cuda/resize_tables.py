"""What each row and column of a resized image is made of, computed as OpenCV does.

The tables depend on two lengths only, so they are made once for a camera and kept on the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ONE = 256  # weights of INTER_LINEAR_EXACT are 8-bit fractions


def bilinear_table(source: int, target: int) -> NDArray[np.int32]:
    """Return, for each of ``target`` pixels, its first source pixel and the next one's weight.

    As OpenCV's INTER_LINEAR_EXACT (``resize_bitExact``): pixel centres are mapped, the weight is
    rounded to 1/256, and beyond the outer centres the outer pixel counts alone.

    Returns:
        int32 (target, 2); weights in [0, 256].
    """
    step = 1 / (target / source)
    place = step * (np.arange(target) + 0.5) - 0.5
    first = np.floor(place).astype(np.int64)
    weight = np.rint((place - first) * _ONE)
    weight[(first < 0) | (first >= source - 1)] = 0
    return np.stack([np.clip(first, 0, source - 1), weight], axis=1).astype(np.int32)
