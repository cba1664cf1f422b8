"""Matches by hand."""

import numpy as np
import pytest

from edgedetr.runtime.device_check.agreement import Agreement, agreement
from edgedetr.runtime.types import Detections

CAR = (0, 0, 100, 100)


def found(*rows):
    """Make detections of (box, score, label)."""
    return Detections(
        np.array([r[0] for r in rows], np.float32).reshape(-1, 4),
        np.array([r[1] for r in rows], np.float32),
        np.array([r[2] for r in rows], np.int64),
    )


@pytest.mark.parametrize(
    ("other", "lost"),
    [
        (found((CAR, 0.75, 0)), 0),
        (found((CAR, 0.69, 0)), 2),  # the scores differ by more than 0.1
        (found((CAR, 0.8, 1)), 2),
        (found(((0, 0, 100, 81), 0.8, 0)), 0),
        (found(((0, 0, 100, 79), 0.8, 0)), 2),
        (found((CAR, 0.8, 0), ((200, 0, 300, 100), 0.4, 0)), 1),
        (found((CAR, 0.8, 0), ((200, 0, 300, 100), 0.29, 0)), 0),
        (found(), 1),
    ],
)
def test_a_detection_is_lost_that_has_none_like_it(other, lost):
    assert agreement([found((CAR, 0.8, 0))], [other]).lost == lost
    assert agreement([other], [found((CAR, 0.8, 0))]).lost == lost


def test_a_match_may_lie_below_the_threshold():
    assert agreement([found((CAR, 0.31, 0))], [found((CAR, 0.29, 0))]) == Agreement(1, 1, 0)


def test_a_tenth_may_be_lost_and_nothing_is_no_agreement():
    assert Agreement(1, 10, 1).holds
    assert not Agreement(1, 10, 2).holds
    assert not Agreement(9, 0, 0).holds
