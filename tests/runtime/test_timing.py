from __future__ import annotations

import numpy as np
import pytest

from edgedetr.runtime.timing import Latency, LatencyHistogram, latency_from_samples


def test_percentiles_are_samples() -> None:
    samples_ns = [ms * 1_000_000 for ms in range(1000, 0, -1)]
    assert latency_from_samples(samples_ns) == Latency(1000, 500, 900, 990, 999, 1000)


def test_one_sample_is_every_percentile() -> None:
    assert latency_from_samples([1_500_000]) == Latency(1, 1.5, 1.5, 1.5, 1.5, 1.5)


def test_no_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="no duration was measured"):
        latency_from_samples([])


def test_percentiles_of_the_histogram_are_within_a_percent():
    samples = (np.random.default_rng(0).lognormal(17, 1.5, 5000)).astype(int).tolist()
    histogram = LatencyHistogram()
    for sample in samples:
        histogram.add(sample)
    found, wanted = histogram.latency(), latency_from_samples(samples)
    assert found.samples == 5000
    assert found.max_ms == wanted.max_ms
    for name in ("p50_ms", "p90_ms", "p99_ms", "p999_ms"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=0.01)
    histogram.add(0)
    histogram.add(10**18)
    assert histogram.latency().max_ms == 10**12
