"""Measured durations and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    if not samples_ns:
        raise ValueError("no duration was measured")
    ranked = sorted(samples_ns)
    ranks = (-(-per_mille * len(ranked) // 1000) for per_mille in (500, 900, 990, 999, 1000))
    return Latency(len(ranked), *(ranked[rank - 1] / 1e6 for rank in ranks))
