"""Frames inside a page."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from edgedetr.pages.pictures import MAX_WIDTH_PX, jpeg_uri


@pytest.mark.parametrize(
    ("hw", "shown"), [((30, 40), (30, 40)), ((100, 2 * MAX_WIDTH_PX), (50, MAX_WIDTH_PX))]
)
def test_a_frame_is_a_jpeg_no_wider_than_the_page(
    hw: tuple[int, int], shown: tuple[int, int]
) -> None:
    image = np.zeros((*hw, 3), np.uint8)
    image[..., 0] = 200
    kind, data = jpeg_uri(image).split(",")
    assert kind == "data:image/jpeg;base64"
    back = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert back is not None
    assert back.shape[:2] == shown
    blue, _, red = back.mean(axis=(0, 1))
    assert red == pytest.approx(200, abs=3)
    assert blue == pytest.approx(0, abs=3)
