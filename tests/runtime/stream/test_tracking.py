"""Numbers of objects that stay, on boxes that move as they should."""

import sys

import numpy as np
import pytest

from edgedetr.runtime import Detections
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.stream.tracking import LOST_NS, Tracker

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


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "edgefirst.tracker", None)
    with pytest.raises(UsageError, match=r"pip install 'edgedetr\[tracker\]'"):
        Tracker(PERIOD_NS)
