"""Measured durations and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    if not len(samples_ns):
        raise ValueError("no duration was measured")
    percents = (50, 90, 99, 99.9, 100)
    ranked = np.percentile(np.asarray(samples_ns), percents, method="inverted_cdf")
    return Latency(len(samples_ns), *(float(value) / 1e6 for value in ranked))
