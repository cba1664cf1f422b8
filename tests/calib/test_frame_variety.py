"""How many calibration frames differ, and the warning where they are too few or too alike."""

from __future__ import annotations

import numpy as np
import pytest

from edgedetr.calib.frame_variety import FEWEST, Variety


def frame(seed: int, noise: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    image = np.kron(coarse, np.ones((16, 16, 1))).astype(np.int16)
    image += np.random.default_rng(noise).integers(-3, 4, image.shape, np.int16)
    return image.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([frame(0, noise) for noise in range(40)], "only 1 of 40 frames differ; use at least 16"),
        ([frame(i % 3, i) for i in range(40)], "only 3 of 40 frames differ; use at least 16"),
        ([frame(i) for i in range(FEWEST - 1)], "only 15 frames; use at least 16"),
        ([frame(i) for i in range(FEWEST)], ""),
        ([], "only 0 frames"),
    ],
)
def test_frames_that_are_too_few_or_too_alike(frames: list[np.ndarray], message: str) -> None:
    variety = Variety()
    for image in frames:
        variety.add(image)
    assert variety.frames == len(frames)
    assert variety.warning().startswith(message)
    assert bool(variety.warning()) == bool(message)
