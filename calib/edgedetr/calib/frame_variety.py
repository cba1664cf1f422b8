"""Check that calibration frames differ: ranges are no better than the frames they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 16
"""With fewer different frames, a range depends on the choice of frames."""
ALIKE = 2.0
"""Frames whose `_CELLS` differ by less, in grey levels and in the mean, are alike."""

_CELLS = 16


class Variety:
    """Counts the frames that differ from all before.

    Attributes:
        frames: Frames so far.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._distinct = np.empty((0, _CELLS * _CELLS * 3), np.float32)

    @property
    def distinct(self) -> int:
        """How many of the frames differ."""
        return len(self._distinct)

    def add(self, image: NDArray[np.uint8]) -> None:
        """Add an image, uint8 (H, W, 3)."""
        self.frames += 1
        cells = cv2.resize(image, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
        flat = cells.astype(np.float32).reshape(1, -1)
        if not (np.abs(self._distinct - flat).mean(axis=1) < ALIKE).any():
            self._distinct = np.concatenate([self._distinct, flat])

    def warning(self) -> str:
        """Return a warning that the frames are too few or too alike; empty if they are not."""
        if self.distinct >= FEWEST:
            return ""
        few = (
            f"only {counted(self.frames, 'frame')}"
            if self.distinct == self.frames
            else f"only {self.distinct} of {self.frames} frames differ"
        )
        return f"{few}; use at least {FEWEST} different frames, from many drives, or INT8 may clip"
