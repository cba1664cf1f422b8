from __future__ import annotations

import pytest

from edgedetr.runtime.timing import Latency, latency_from_samples


def test_percentiles_are_samples() -> None:
    samples_ns = [ms * 1_000_000 for ms in range(1000, 0, -1)]
    assert latency_from_samples(samples_ns) == Latency(1000, 500, 900, 990, 999, 1000)


def test_one_sample_is_every_percentile() -> None:
    assert latency_from_samples([1_500_000]) == Latency(1, 1.5, 1.5, 1.5, 1.5, 1.5)


def test_no_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="no duration was measured"):
        latency_from_samples([])
