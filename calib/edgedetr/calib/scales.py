"""Choose the clip of a tensor: the magnitude that the largest INT8 step, 127, stands for.

INT8 is symmetric, see `edgedetr.graph.int8`: a small amax rounds finely and clips much, a large one
the reverse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedetr.graph.int8 import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgedetr.calib.histogram import Histogram
    from edgedetr.calib.methods import Method

_GROUPS = 128
_STRIDE = 8


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
