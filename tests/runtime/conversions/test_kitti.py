"""`Detections` to and from the text of KITTI's result files."""

import numpy as np
import pytest

from edgedetr.runtime.conversions.kitti import from_kitti, to_kitti
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.types import Detections


def test_a_file_by_hand():
    found = Detections(
        np.array([[1, 2.5, 30.126, 40], [0, 0, 1242, 375]], np.float32),
        np.array([0.98765432, 0.5], np.float32),
        np.array([1, 0]),
    )
    assert to_kitti(found, ("Car", "traffic light")) == (
        "traffic_light -1 -1 -10 1.00 2.50 30.13 40.00 -1 -1 -1 -1000 -1000 -1000 -10 0.987654\n"
        "Car -1 -1 -10 0.00 0.00 1242.00 375.00 -1 -1 -1 -1000 -1000 -1000 -10 0.500000\n"
    )


def test_no_detection_is_an_empty_file():
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))
    assert to_kitti(nothing, ("Car",)) == ""


def test_what_is_written_is_read(found, names, same):
    same(from_kitti(to_kitti(found, names), names), found)
    assert len(from_kitti("", names)) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Car -1 -1 -10 1 2 3 4", "line 1: wanted KITTI's 16 columns, the last the score; found 8"),
        ("Car -1 -1 -10 1 2 x 4 -1 -1 -1 0 0 0 0 0.5", "could not convert string to float: 'x'"),
        ("Car -1 -1 -10 1 2 3 nan -1 -1 -1 0 0 0 0 0.5", "a box is not finite"),
        ("Car -1 -1 -10 1 2 3 4 -1 -1 -1 0 0 0 0 1.5", "a score is not in 0 to 1"),
        ("Cart -1 -1 -10 1 2 3 4 -1 -1 -1 0 0 0 0 0.5", "no class 'Cart' among the model's"),
    ],
)
def test_what_is_no_result(line, message, names):
    with pytest.raises(DataError, match=message):
        from_kitti(line, names)
