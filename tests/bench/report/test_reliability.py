"""Precision by score, worked out by hand."""

import numpy as np
import pytest

from edgedetr.bench.report.matches import NONE, Matches
from edgedetr.bench.report.reliability import reliability


def matches_of(label, score, found, neutral=()):
    none = np.zeros(len(label), np.int64)
    is_neutral = np.isin(np.arange(len(label)), neutral)
    return Matches(none, np.array(label), np.array(score), np.array(found), is_neutral, none)


def test_the_error_is_weighted_by_the_detections_of_a_range():
    """Three of 0.9, two of them right; one of 0.35, wrong; one of 0.1 and a neutral one: none."""
    score = [0.9, 0.9, 0.9, 0.35, 0.1, 0.95]
    matches = matches_of([0, 0, 0, 0, 0, 0], score, [0, 1, NONE, NONE, 2, NONE], neutral=[5])
    whole, car, walker = reliability(matches, ("Car", "Pedestrian"))
    assert whole.name == "all"
    assert (whole.ece, whole.ranges) == (car.ece, car.ranges)
    low, high = car.ranges
    assert (low.detections, low.score, low.precision) == (1, 0.35, 0)
    assert high.detections == 3
    assert high.precision == pytest.approx(2 / 3)
    assert car.ece == pytest.approx((3 * (0.9 - 2 / 3) + 0.35) / 4)
    assert np.isnan(walker.ece)
    assert walker.ranges == ()


def test_a_score_of_one_belongs_to_the_last_range():
    (whole,) = reliability(matches_of([0, 0], [1.0, 0.91], [0, 1]), ())
    assert [r.detections for r in whole.ranges] == [2]
    assert whole.ece == pytest.approx(1 - 0.955)
