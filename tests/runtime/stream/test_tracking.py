"""Numbers of objects that stay, on boxes that move as they should."""

import sys

import numpy as np
import pytest

from edgedetr.runtime import Detections
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.stream import tracking
from edgedetr.runtime.stream.tracking import LEAST_PERIOD_NS, LOST_NS, Tracker

PERIOD_NS = 33_000_000


@pytest.fixture
def tracker():
    pytest.importorskip("edgefirst.tracker")
    return Tracker(PERIOD_NS)


def found(*objects):
    """Detections of (x, label, score), 60 px wide."""
    boxes = [(x, 100, x + 60, 150) for x, _, _ in objects]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([score for _, _, score in objects], np.float32),
        np.array([label for _, label, _ in objects], np.int64),
    )


def test_two_cars_keep_their_numbers_whatever_their_order(tracker):
    for k in range(20):
        left, right = (100 + 10 * k, 0, 0.9), (800 - 10 * k, 0, 0.6)
        swapped = k % 2
        ids = tracker.update(found(*([right, left] if swapped else [left, right])), k * PERIOD_NS)
        assert ids.tolist() == ([2, 1] if swapped else [1, 2])
        assert ids.dtype == np.int64


def test_a_car_is_found_again_behind_dropped_frames(tracker):
    """15 px a frame are 60 px over three dropped ones: a whole width, and still the same car."""
    for k in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 18, 19]:
        assert tracker.update(found((15 * k, 0, 0.9)), k * PERIOD_NS).tolist() == [1], k


def test_a_car_that_was_gone_for_long_is_another(tracker):
    tracker.update(found((100, 0, 0.9)), 0)
    later = LOST_NS + 10 * PERIOD_NS
    tracker.update(found(), later - PERIOD_NS)
    assert tracker.update(found((100, 0, 0.9)), later).tolist() == [2]
    assert len(tracker._numbers) == 1


def test_classes_do_not_share_tracks(tracker):
    for k in range(3):
        ids = tracker.update(found((100, 0, 0.9), (100, 1, 0.8)), k * PERIOD_NS)
        assert sorted(ids.tolist()) == [1, 2]


def test_a_weak_detection_continues_a_track_and_starts_none(tracker):
    assert tracker.update(found((100, 0, 0.9), (500, 0, 0.35)), 0).tolist() == [1, 0]
    assert tracker.update(found((100, 0, 0.35)), PERIOD_NS).tolist() == [1]


def test_an_empty_frame_is_no_trouble(tracker):
    assert tracker.update(found(), 0).tolist() == []
    assert tracker.update(found((1, 0, 0.9)), PERIOD_NS).tolist() == [1]


@pytest.mark.parametrize("period_ns", [-1, 0, 1, LEAST_PERIOD_NS - 1])
def test_a_period_that_takes_ever_more_steps_is_refused(period_ns):
    with pytest.raises(UsageError, match=f"the period is {period_ns} ns, give at least 1000000"):
        Tracker(period_ns)


def test_a_gap_has_so_many_steps_and_no_more(monkeypatch):
    pytest.importorskip("edgefirst.tracker")
    steps: list[int] = []

    def step(*given):
        steps.append(given[-1])
        return [None]

    monkeypatch.setattr(tracking, "_step", step)
    quickest = Tracker(LEAST_PERIOD_NS)
    for time_ns in (0, 2**64 - 1):
        quickest.update(found((100, 0, 0.9)), time_ns)
    assert len(steps) == 2 + LOST_NS // LEAST_PERIOD_NS - 1


@pytest.mark.parametrize("time_ns", [-1, 2**64, 10**400])
def test_a_time_that_is_none_is_refused_and_changes_nothing(tracker, time_ns):
    tracker.update(found((100, 0, 0.9)), 0)
    with pytest.raises(UsageError, match="cannot be tracked; give times from 0 to 2"):
        tracker.update(found((100, 0, 0.9)), time_ns)
    assert tracker.update(found((110, 0, 0.9)), PERIOD_NS).tolist() == [1]


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "edgefirst.tracker", None)
    with pytest.raises(UsageError, match=r"pip install 'edgedetr\[tracker\]'"):
        Tracker(PERIOD_NS)
