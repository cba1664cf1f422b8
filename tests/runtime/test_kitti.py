from __future__ import annotations

import numpy as np

from edgedetr.runtime.kitti import results_text
from edgedetr.runtime.types import Detections


def test_a_file_by_hand() -> None:
    found = Detections(
        np.array([[1, 2.5, 30.126, 40], [0, 0, 1242, 375]], np.float32),
        np.array([0.98765432, 0.5], np.float32),
        np.array([1, 0]),
    )
    assert results_text(found, ("Car", "traffic light")) == (
        "traffic_light -1 -1 -10 1.00 2.50 30.13 40.00 -1 -1 -1 -1000 -1000 -1000 -10 0.987654\n"
        "Car -1 -1 -10 0.00 0.00 1242.00 375.00 -1 -1 -1 -1000 -1000 -1000 -10 0.500000\n"
    )


def test_no_detection_is_an_empty_file() -> None:
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))
    assert results_text(nothing, ("Car",)) == ""
