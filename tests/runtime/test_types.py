"""Frames that are no image."""

import numpy as np
import pytest

from edgedetr.runtime import Frame
from edgedetr.runtime.types import MAX_SIDE_PX


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), r"got uint8 \(0, 5, 3\)"),
        (np.zeros((5, 5), np.uint8), r"got uint8 \(5, 5\)"),
        (np.zeros((5, 5, 4), np.uint8), r"got uint8 \(5, 5, 4\)"),
        (np.full((5, 5, 3), np.nan, np.float32), r"got float32 \(5, 5, 3\)"),
        (np.zeros((5, 5, 3), np.uint16), r"got uint16 \(5, 5, 3\)"),
        (np.zeros((1, MAX_SIDE_PX + 1, 3), np.uint8), r"at most 16384 pixels, got \(1, 16385, 3\)"),
        (None, "got NoneType None"),
        ([[[1, 2, 3]]], "got list None"),
    ],
)
def test_a_bad_frame_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        Frame(image)
