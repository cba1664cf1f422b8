"""Figures of images, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgedetr.runtime.health.image_figures import CameraProbe


def test_camera_figures_by_hand():
    probe = CameraProbe()
    image = np.zeros((200, 400, 3), np.uint8)
    image[:, 200:] = 200
    figures = probe(image)
    assert figures.brightness == pytest.approx(100)
    assert figures.contrast == pytest.approx(100)
    assert figures.moved == (0, 0)
    assert not figures.is_frozen
    assert probe(image).is_frozen
    assert figures.layout[:, :8].max() < 0 < figures.layout[:, 8:].min()


def test_move_is_measured_in_shares_of_the_image(drive):
    probe = CameraProbe()
    probe(drive(0))
    x, y = probe(np.roll(drive(0), (20, 40), axis=(0, 1))).moved
    assert (x, y) == pytest.approx((0.1, 0.1), abs=0.01)


def test_images_of_any_size_are_measured():
    probe = CameraProbe()
    for shape in ((1, 1, 3), (3, 5, 3), (40, 7, 3), (2000, 30, 3)):
        figures = probe(np.full(shape, 7, np.uint8))
        assert figures.brightness == 7
