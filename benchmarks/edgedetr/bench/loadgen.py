"""Percentiles of latencies by the definition of LoadGen, MLPerf's load generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARES = (0.5, 0.9, 0.95, 0.97, 0.99, 0.999)
"""The percentiles in LoadGen's summary, as shares."""


@dataclass(frozen=True)
class StreamLatency:
    """Latencies of a stream, in milliseconds; every percentile is one of the samples."""

    samples: int
    mean_ms: float
    min_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p97_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


def stream_latency(samples_ns: Sequence[int]) -> StreamLatency:
    """Summarise latencies in nanoseconds.

    The percentile of a share p of N samples is the one of index floor(N p) in ascending order
    (`PerformanceSummary::ProcessLatencies` in mlcommons/inference, loadgen/results.cc). That is one
    rank above nearest rank where N p is whole: of 1,000 samples p99.9 is the longest.

    >>> stream_latency([5_000_000, 1_000_000, 3_000_000, 7_000_000]).p50_ms
    5.0

    Raises:
        ValueError: If there is no sample.
    """
    if not samples_ns:
        raise ValueError("no latency was measured")
    ranked = sorted(samples_ns)
    percentiles = [ranked[int(len(ranked) * share)] for share in SHARES]
    figures = (sum(ranked) / len(ranked), ranked[0], *percentiles, ranked[-1])
    return StreamLatency(len(ranked), *(figure / 1e6 for figure in figures))
