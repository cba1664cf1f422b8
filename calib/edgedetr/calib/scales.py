"""Choose the clip of a tensor: the magnitude that the largest INT8 step, 127, stands for.

A small amax rounds finely and clips much, a large one the reverse. For uint8, which has a zero
point (see `edgedetr.graph.int8`), both ends of the range are chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.graph.int8 import LEVELS, STEPS, asymmetric_grid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgedetr.calib.histogram import Histogram
    from edgedetr.calib.methods import Method

_GROUPS = 128
_STRIDE = 8
_ENDS, _ROUNDS = 64, 3
"""How many positions of one end are tried beside the other, and how often both take their turn."""


def amax_from_histogram(
    histogram: Histogram, method: Method = "mse", percentile: float = 99.99
) -> float:
    """Choose a tensor's amax.

    Args:
        histogram: The magnitudes that calibration saw.
        method: ``mse``: least squared rounding and clipping error; ``percentile``: the magnitude
            that a share of all values does not exceed; ``entropy``: least loss of information
            (Migacz, "8-bit inference with TensorRT", GTC 2017); ``max``: the largest.
        percentile: The share in per cent, in (0, 100]; only ``percentile`` looks at it.
    """
    if histogram.max == 0:
        return 0.0
    if method == "max":
        return histogram.max
    if method == "percentile":
        return _percentile(histogram, percentile)
    errors = {"mse": _squared_error, "entropy": _divergence}[method]
    best = min(_stops(histogram), key=lambda stop: errors(histogram.counts, stop))
    return min(best * histogram.width, histogram.max)


def ends_from_histogram(
    histogram: Histogram, method: Method = "mse", percentile: float = 99.99
) -> tuple[float, float]:
    """Choose both ends of a tensor's range for uint8; takes what `amax_from_histogram` does.

    ``mse`` moves each end in its turn to where the squared error is least; the others clip both at
    their amax.
    """
    low, high = histogram.low, histogram.high
    if method != "mse" or low == high:
        amax = amax_from_histogram(histogram, method, percentile)
        return max(low, -amax), min(high, amax)
    counts = np.concatenate([histogram.below[::-1], histogram.counts - histogram.below])
    centres = (np.arange(counts.size) - counts.size // 2 + 0.5) * histogram.width
    filled = counts > 0
    counts, centres = counts[filled], centres[filled]
    tried = np.arange(1, _ENDS + 1) / _ENDS
    lows = low * tried if low < 0 else np.zeros(1)
    highs = high * tried if high > 0 else np.zeros(1)
    for _ in range(_ROUNDS):
        high = min(highs, key=lambda end: _error_between(counts, centres, low, float(end)))
        low = min(lows, key=lambda end: _error_between(counts, centres, float(end), high))
    return float(low), float(high)


def _error_between(
    counts: NDArray[np.int64], centres: NDArray[np.floating[Any]], low: float, high: float
) -> float:
    """Sum the squared error of every value at its bin's centre, rounded to uint8."""
    grid = asymmetric_grid(low, high)
    steps = np.clip(np.rint(centres / grid.scale) + grid.zero, 0, STEPS)
    return float(counts @ np.square((steps - grid.zero) * grid.scale - centres))


def _percentile(histogram: Histogram, percentile: float) -> float:
    """Find the magnitude by a straight line inside the bin that holds it."""
    below = np.concatenate([[0], np.cumsum(histogram.counts)])
    wanted = below[-1] * percentile / 100
    last = int(np.searchsorted(below, wanted)) - 1
    inside = (wanted - below[last]) / histogram.counts[last]
    return min(float((last + inside) * histogram.width), histogram.max)


def _stops(histogram: Histogram) -> Iterator[int]:
    """Yield the bin edges at which to try to clip: from one bin a level to the largest value."""
    top = int(np.flatnonzero(histogram.counts)[-1]) + 1
    yield from range(_GROUPS, top, _STRIDE)
    yield top


def _squared_error(counts: NDArray[np.int64], stop: int) -> float:
    """Sum the squared error, in bin widths, of every value at its bin's centre."""
    centres = np.arange(len(counts)) + 0.5
    step = stop / LEVELS
    quantized = np.minimum(np.rint(centres / step), LEVELS) * step
    return float(counts @ np.square(centres - quantized))


def _divergence(counts: NDArray[np.int64], stop: int) -> float:
    """Return the Kullback-Leibler divergence of the INT8 distribution from the clipped one.

    The first bin takes the count of its neighbour: exact zeros, which a ReLU makes in masses, lose
    nothing at any clip and would hide everything else.
    """
    counts = counts.copy()
    counts[0] = counts[1]
    clipped = counts[:stop].astype(np.float64)
    clipped[-1] += counts[stop:].sum()
    filled = clipped > 0
    edges = np.arange(_GROUPS) * stop // _GROUPS
    mass = np.add.reduceat(counts[:stop], edges)
    share = mass / np.maximum(np.add.reduceat(filled, edges, dtype=np.int64), 1)
    spread = np.repeat(share, np.diff(edges, append=stop))
    if not mass.any() or (spread[filled] == 0).any():
        return np.inf
    p = clipped[filled] / clipped.sum()
    q = spread[filled] / mass.sum()
    return float(p @ np.log(p / q))
