"""Measured durations and their percentiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class StageTimes:
    """What a detector spent on its frames so far, in nanoseconds."""

    frames: int = 0
    preprocess_ns: int = 0
    infer_ns: int = 0
    postprocess_ns: int = 0


@dataclass(frozen=True)
class Latency:
    """Percentiles of measured durations, in milliseconds.

    Every figure is one of the samples (nearest rank), never a mean of two.
    """

    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


def latency_from_samples(samples_ns: Sequence[int]) -> Latency:
    """Summarise durations in nanoseconds.

    >>> latency_from_samples([3_000_000, 1_000_000, 2_000_000]).p50_ms
    2.0

    Raises:
        ValueError: If there is no sample.
    """
    if not samples_ns:
        raise ValueError("no duration was measured")
    ranked = sorted(samples_ns)
    ranks = (-(-per_mille * len(ranked) // 1000) for per_mille in (500, 900, 990, 999, 1000))
    return Latency(len(ranked), *(ranked[rank - 1] / 1e6 for rank in ranks))


class LatencyHistogram:
    """Durations of an endless stream in constant memory; percentiles are accurate to 1 %.

    >>> histogram = LatencyHistogram()
    >>> for duration_ns in (3_000_000, 1_000_000, 2_000_000):
    ...     histogram.add(duration_ns)
    >>> round(histogram.latency().p50_ms, 1), histogram.latency().max_ms
    (2.0, 3.0)
    """

    _STEP = math.log(1.01)
    _BINS = 2800  # from 1 ns to 20 minutes

    def __init__(self) -> None:
        self._counts = [0] * self._BINS
        self._samples = 0
        self._max_ns = 0

    def add(self, duration_ns: int) -> None:
        """Count a duration in nanoseconds."""
        place = int(math.log(max(1, duration_ns)) / self._STEP)
        self._counts[min(place, self._BINS - 1)] += 1
        self._samples += 1
        self._max_ns = max(self._max_ns, duration_ns)

    def latency(self) -> Latency:
        """Summarise what was added.

        Raises:
            ValueError: If nothing was.
        """
        if not self._samples:
            raise ValueError("no duration was measured")
        ranked = (self._ranked(per_mille) / 1e6 for per_mille in (500, 900, 990, 999, 1000))
        return Latency(self._samples, *ranked)

    def _ranked(self, per_mille: int) -> float:
        if per_mille == 1000:
            return self._max_ns
        rank, passed = -(-per_mille * self._samples // 1000), 0
        for place, count in enumerate(self._counts):
            passed += count
            if passed >= rank:
                return min(math.exp((place + 0.5) * self._STEP), self._max_ns)
        return self._max_ns
