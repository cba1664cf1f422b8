"""What each row and column of a resized image is made of, computed as OpenCV does.

The tables depend on two lengths only, so they are made once for a camera and kept on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ONE = 256  # weights of INTER_LINEAR_EXACT are 8-bit fractions
_NOTHING = 1e-3  # INTER_AREA leaves out smaller shares of a source pixel


@dataclass(frozen=True, eq=False)
class AreaTable:
    """The source pixels that each target averages.

    Attributes:
        spans: int32 (targets, 2): where its taps start in the lists, and how many they are.
        taps: int32: indices of source pixels.
        weights: float32: their weights.
    """

    spans: NDArray[np.int32]
    taps: NDArray[np.int32]
    weights: NDArray[np.float32]


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


def area_table(source: int, target: int) -> AreaTable:
    """Return what each of ``target`` pixels averages, with weights that add up to one.

    As OpenCV's INTER_AREA (``computeResizeAreaTab``), with its cut-off for small shares.
    """
    step = 1 / (target / source)
    spans: list[tuple[int, int]] = []
    taps: list[int] = []
    weights: list[float] = []
    for index in range(target):
        start = index * step
        end = start + step
        width = min(step, source - start)
        last = min(int(np.floor(end)), source - 1)
        first = min(int(np.ceil(start)), last)
        made = [(i, 1 / width) for i in range(first, last)]
        if first - start > _NOTHING:
            made.insert(0, (first - 1, (first - start) / width))
        if end - last > _NOTHING:
            made.append((last, min(end - last, 1, width) / width))
        spans.append((len(taps), len(made)))
        taps += [i for i, _ in made]
        weights += [w for _, w in made]
    return AreaTable(
        np.array(spans, np.int32), np.array(taps, np.int32), np.array(weights, np.float32)
    )


def whole_area_table(source: int, target: int) -> AreaTable:
    """Return what each pixel sums where ``source`` is a multiple of ``target``; weights are one."""
    count = source // target
    spans = np.stack([np.arange(target) * count, np.full(target, count)], axis=1)
    return AreaTable(
        spans.astype(np.int32), np.arange(source, dtype=np.int32), np.ones(source, np.float32)
    )
