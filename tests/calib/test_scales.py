"""Each way to choose a clip, against values worked out by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest

from edgedetr.calib.histogram import BINS, Histogram
from edgedetr.calib.methods import Method
from edgedetr.calib.scales import _divergence, amax_from_histogram

if TYPE_CHECKING:
    from collections.abc import Mapping


def histogram_of(counts: Mapping[int, int], largest: float) -> Histogram:
    """A histogram whose bins are 1 wide."""
    histogram = Histogram()
    histogram.limit = float(BINS)
    histogram.max = largest
    for position, count in counts.items():
        histogram.counts[position] = count
    return histogram


def test_max_is_the_largest_magnitude() -> None:
    assert amax_from_histogram(histogram_of({0: 9, 700: 1}, 700.25), "max") == 700.25


@pytest.mark.parametrize(
    ("percentile", "amax"),
    [(90, 1.0), (94.5, 10.5), (99, 11.0), (99.5, 1000.5), (100, 1000.75)],
)
def test_percentile_is_read_off_the_running_sum(percentile: float, amax: float) -> None:
    histogram = histogram_of({0: 90, 10: 9, 1000: 1}, 1000.75)
    assert amax_from_histogram(histogram, "percentile", percentile) == pytest.approx(amax)


def test_mse_weighs_clipping_against_rounding() -> None:
    """n values all over [0, r) lose n (c / 127)^2 / 12 to rounding, m outliers at a (a - c)^2 each.

    The derivative of n c^2 / 127^2 / 12 + m (a - c)^2 is zero at c = a / (1 + n / (12 m 127^2)).
    """
    n, m, a = 100 * 400, 1, 1800.5
    histogram = histogram_of({**dict.fromkeys(range(400), 100), 1800: m}, a)
    expected = a / (1 + n / (12 * m * 127**2))
    assert expected == pytest.approx(1492.1, abs=0.1)
    assert amax_from_histogram(histogram, "mse") == pytest.approx(expected, rel=0.02)


def test_mse_keeps_what_many_values_share() -> None:
    histogram = histogram_of({100: 1000, 1999: 1000}, 1999.5)
    assert amax_from_histogram(histogram, "mse") > 1950


def test_divergence_of_pairs() -> None:
    """With 256 bins in 128 pairs of 1 and 3, INT8 sees 2 and 2 in each; the first pair is even."""
    counts = np.tile(np.array([1, 3], np.int64), BINS // 2)
    pair = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert _divergence(counts[:256], 256) == pytest.approx(508 / 514 * pair)


def test_divergence_counts_what_is_clipped_in_the_last_bin() -> None:
    """128 bins of 1 keep their own level each; 128 more in the last: P 129/256 there, Q 1/128."""
    counts = np.zeros(BINS, np.int64)
    counts[:128] = 1
    counts[200] = 128
    inside = 127 / 256 * math.log(128 / 256)
    assert _divergence(counts, 128) == pytest.approx(inside + 129 / 256 * math.log(129 / 2))


def test_entropy_clips_a_lonely_outlier() -> None:
    slope = {i: 1000 - 7 * i for i in range(128)}
    histogram = histogram_of({**slope, 1500: 1}, 1500.5)
    assert amax_from_histogram(histogram, "entropy") == 128.0


def test_entropy_keeps_a_flat_range() -> None:
    histogram = histogram_of(dict.fromkeys(range(BINS), 10), 2047.75)
    assert amax_from_histogram(histogram, "entropy") == 2047.75


def test_masses_of_zeros_do_not_sway_entropy() -> None:
    slope = {i: 2 + 100_000 // (1 + i) for i in range(1, 1600)}
    few, many = (histogram_of({**slope, 0: zeros}, 1599.5) for zeros in (100, 10**9))
    assert amax_from_histogram(few, "entropy") == amax_from_histogram(many, "entropy")


@pytest.mark.parametrize("method", get_args(Method))
def test_a_dead_tensor_has_no_range(method: Method) -> None:
    histogram = Histogram()
    histogram.add(np.zeros(5, np.float32))
    assert amax_from_histogram(histogram, method) == 0.0


@pytest.mark.parametrize("method", get_args(Method))
def test_no_method_exceeds_the_largest_value(method: Method) -> None:
    values = np.random.default_rng(0).gamma(0.5, 2.0, 20_000).astype(np.float32)
    histogram = Histogram()
    histogram.add(values)
    assert 0 < amax_from_histogram(histogram, method) <= values.max()
