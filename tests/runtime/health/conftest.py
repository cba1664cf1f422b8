"""A drive for the tests of health."""

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def drive():
    """Images of a drive along a wall of blobs: the view wanders, the sensor is noisy."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (10, 60, 3), np.uint8)
    wall = cv2.resize(coarse, (1600, 200), interpolation=cv2.INTER_CUBIC)
    wall = np.clip(wall + rng.normal(0, 12, wall.shape), 0, 255)

    def image(number):
        left = int(400 + 300 * np.sin(number / 200))
        noise = np.random.default_rng(number).normal(0, 4, (200, 400, 3))
        return np.clip(wall[:, left : left + 400] + noise, 0, 255).astype(np.uint8)

    return image
