"""Slices partition the objects, and their figures can be worked out by hand."""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from edgedetr.bench.report.matches import NONE, Matches, Objects
from edgedetr.bench.report.slices import partitions, score_at, slices


def some_objects(count, seed=0):
    random = np.random.default_rng(seed)
    return Objects(
        np.sort(random.integers(0, 5, count)),
        random.integers(0, 3, count),
        random.uniform(1, 200, count),
        random.uniform(1, 20_000, count),
        random.integers(-1, 5, count),
        random.uniform(0, 1, count),
        np.where(random.random(count) < 0.2, np.nan, random.uniform(1, 90, count)),
        random.uniform(0, 255, count),
    )


@pytest.mark.parametrize("count", [0, 1, 300])
def test_the_slices_of_a_kind_partition_the_objects(count):
    objects = some_objects(count)
    parts = list(partitions(objects, ("a", "b", "c")))
    assert {"distance", "brightness", "occlusion"} < {kind for kind, *_ in parts}
    for kind, group in groupby(parts, key=lambda part: part[0]):
        times = np.sum([members for *_, members in group], axis=0)
        assert (times == 1).all(), kind


def four_objects():
    """Two cars of 30 and 100 px, a pedestrian of 30 px, a pedestrian of 100 px."""
    height = np.array([30.0, 100, 30, 100])
    return Objects(
        np.zeros(4, np.int64),
        np.array([0, 0, 1, 1]),
        height,
        height**2,
        np.zeros(4, np.int64),
        np.zeros(4),
    )


def test_a_slice_counts_its_objects_and_every_false_detection():
    found = np.array([0, 1, NONE, 3])  # the false one is a car, between the two in score
    matches = Matches(
        np.zeros(4, np.int64),
        np.array([0, 0, 0, 1]),
        np.array([0.3, 0.9, 0.6, 0.8]),
        found,
        np.zeros(4, bool),
        np.arange(4),
    )
    by_name = {s.name: s for s in slices(four_objects(), matches, ("Car", "Pedestrian"), 10)}
    assert by_name["Car"].ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert by_name["25 to 40 px"].objects == 2
    assert by_name["25 to 40 px"].ap50 == pytest.approx((0.5 + 0) / 2)  # the car behind a false one
    assert by_name["from 80 px"].ap50 == 1
    assert by_name["from 80 px"].miss_rate == 0
    assert by_name["25 to 40 px"].miss_rate == 0.5
    assert by_name["40 to 80 px"].objects == 0
    assert np.isnan(by_name["40 to 80 px"].miss_rate)
    assert np.isnan(by_name["40 to 80 px"].ap50)


def test_a_class_is_missed_at_its_own_false_detections():
    """Two false cars must not hide the pedestrian of a lower score."""
    found = np.array([NONE, NONE, 0, 2])
    matches = Matches(
        np.zeros(4, np.int64),
        np.array([0, 0, 0, 1]),
        np.array([0.9, 0.8, 0.5, 0.4]),
        found,
        np.zeros(4, bool),
        np.arange(4),
    )
    parts = slices(four_objects(), matches, ("Car", "Pedestrian"), 10)
    by_name = {s.name: s.miss_rate for s in parts}
    # one false car is allowed in 10 frames: from 0.8 up no car is found, and at any score one
    # pedestrian of two is
    assert (by_name["all"], by_name["Car"], by_name["Pedestrian"]) == (1, 1, 0.5)


def test_misses_are_counted_at_a_fixed_number_of_false_detections():
    matches = Matches(
        np.zeros(5, np.int64),
        np.zeros(5, np.int64),
        np.array([0.9, 0.5, 0.4, 0.3, 0.2]),
        np.array([0, NONE, NONE, NONE, 1]),
        np.array([False, False, True, False, False]),
        np.arange(5),
    )
    assert score_at(matches, frames=10, false_a_frame=0.2) == 0  # two false ones in ten frames
    limit = score_at(matches, frames=10, false_a_frame=0.1)
    assert 0.3 < limit < 0.4
    assert score_at(matches, frames=1, false_a_frame=0.1) > 0.5


def matches_of(found, score):
    """Detections that found these objects, all of them cars."""
    count = len(found)
    none = np.zeros(count, np.int64)
    return Matches(none, none, np.array(score), np.array(found), np.zeros(count, bool), none)


def test_agreement_counts_the_objects_that_both_find():
    """The teacher finds both cars and a pedestrian, the student one car surely and one hardly."""
    teacher, student = matches_of([0, 1, 2], [0.9, 0.5, 0.4]), matches_of([0, 1], [0.8, 0.2])
    found = {
        s.name: s.agreement
        for s in slices(four_objects(), student, ("Car", "Pedestrian"), 10, teacher)
    }
    assert found["all"] == pytest.approx(2 * 1 / (3 + 1))
    assert found["Car"] == pytest.approx(2 * 1 / (2 + 1))
    assert found["Pedestrian"] == 0
    assert np.isnan(found["40 to 80 px"])
    alone = slices(four_objects(), student, ("Car", "Pedestrian"), 10)
    assert np.isnan([s.agreement for s in alone]).all()


def test_distance_and_light_are_slices_where_they_are_known():
    objects = replace(four_objects(), distance=np.array([10.0, 40, np.nan, 60]))
    parts = {(kind, name): members for kind, name, members in partitions(objects, ("a", "b"))}
    assert parts["distance", "below 15 m"].tolist() == [True, False, False, False]
    assert parts["distance", "30 to 50 m"].tolist() == [False, True, False, False]
    assert parts["distance", "unknown"].tolist() == [False, False, True, False]
    assert not [kind for kind, _ in parts if kind == "brightness"]
