"""The streaming histogram, against values counted by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgedetr.calib.histogram import BINS, Histogram


def histogram_of(*chunks: object) -> Histogram:
    histogram = Histogram()
    for chunk in chunks:
        histogram.add(np.asarray(chunk, np.float32))
    return histogram


def filled(histogram: Histogram) -> dict[int, int]:
    return {int(i): int(histogram.counts[i]) for i in np.flatnonzero(histogram.counts)}


def test_magnitudes_fall_into_bins_of_the_next_power_of_two() -> None:
    histogram = histogram_of([[0.0, 0.5], [-1.0, 3.0]])
    assert (histogram.limit, histogram.width, histogram.max) == (4.0, 4 / BINS, 3.0)
    assert filled(histogram) == {0: 1, 256: 1, 512: 1, 1536: 1}


def test_a_power_of_two_lies_inside_its_range() -> None:
    histogram = histogram_of([1.0])
    assert histogram.limit == 2.0
    assert filled(histogram) == {BINS // 2: 1}


def test_the_range_doubles_and_neighbours_merge() -> None:
    histogram = histogram_of([0.0, 1.0, 1.0009765625, 1.5], [7.0])
    assert histogram.limit == 8.0
    assert filled(histogram) == {0: 1, 256: 2, 384: 1, 1792: 1}


def test_the_order_of_the_frames_does_not_matter() -> None:
    frames = [np.random.default_rng(0).normal(0, s, 999) for s in (1e-3, 1.0, 50.0)]
    every = [histogram_of(*order) for order in itertools.permutations(frames)]
    for histogram in every[1:]:
        assert histogram.limit == every[0].limit
        np.testing.assert_array_equal(histogram.counts, every[0].counts)


def test_more_than_a_block_is_counted_as_numpy_counts_it() -> None:
    values = np.random.default_rng(1).normal(0, 3, (2, 3, 40_000)).astype(np.float32)
    histogram = histogram_of(values)
    expected, _ = np.histogram(np.abs(values), BINS, (0, histogram.limit))
    np.testing.assert_array_equal(histogram.counts, expected)


def test_zeros_and_the_very_small_are_counted() -> None:
    histogram = histogram_of([], [0.0, -0.0])
    assert (histogram.limit, filled(histogram)) == (0.0, {0: 2})
    histogram.add(np.array([1e-40], np.float32))
    assert filled(histogram) == {0: 3}
    histogram.add(np.array([3e38], np.float32))
    assert histogram.counts.sum() == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_not_counted(bad: float) -> None:
    histogram = histogram_of([1.0])
    with pytest.raises(ValueError, match="not finite"):
        histogram.add(np.array([0.5, bad], np.float32))
    assert filled(histogram) == {BINS // 2: 1}
