"""Images for a check where nobody gave any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def textured_frames(hw: tuple[int, int], count: int = 4) -> list[NDArray[np.uint8]]:
    """Make images of coloured blobs under noise, always the same ones, uint8 (H, W, 3)."""
    rng = np.random.default_rng(0)
    height, width = hw
    frames = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (max(2, height // 32), max(2, width // 32), 3), np.uint8)
        blobs = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
        noise = rng.integers(-12, 13, (height, width, 3), np.int16)
        frames.append((blobs + noise).clip(0, 255).astype(np.uint8))
    return frames
