"""Detections of one image for every conversion."""

import numpy as np
import pytest

from edgedetr.runtime.types import Detections


@pytest.fixture
def names():
    return ("Car", "traffic light")


@pytest.fixture
def found():
    """Two detections in an image of 80 x 100 pixels, height first."""
    return Detections(
        np.array([[10, 20, 40, 65], [0, 0, 100, 80]], np.float32),
        np.array([0.9, 0.25], np.float32),
        np.array([1, 0], np.int64),
    )


@pytest.fixture
def same():
    """Compares detections: labels exactly, boxes and scores as the texts round them."""

    def check(one, other):
        assert one.labels.tolist() == other.labels.tolist()
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)

    return check
