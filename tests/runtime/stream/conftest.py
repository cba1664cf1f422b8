"""Results of a stream."""

import numpy as np
import pytest

from edgedetr.runtime import Detections, Frame
from edgedetr.runtime.stream.stream import StreamResult


@pytest.fixture
def result():
    """Makes the result of a frame with ``count`` objects."""

    def make(name="000001", count=1, track_ids=None):
        found = Detections(
            np.array([[1, 2, 30.5, 15]] * count, np.float32),
            np.array([0.75] * count, np.float32),
            np.array([1] * count, np.int64),
        )
        frame = Frame(np.zeros((20, 40, 3), np.uint8), 5, name)
        return StreamResult(frame, found, track_ids, 7_654_321, 6_000_000, 2, missed=True)

    return make
