"""Figures of a camera image that cost a fraction of a millisecond.

Nothing here reads every pixel: light and layout come from every fourth one, focus from a patch in
the middle, and jumps of the view from a coarse phase correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP = 4
"""Every so many pixels a sample, across and down."""
PATCH_HW = (128, 256)
"""Largest patch in the middle of the image on which focus is measured, in pixels."""
LAYOUT_HW = (8, 16)
"""Cells in which light is averaged, down and across."""
LEAST_SAMPLES = 20
"""Samples, down and across, that a phase correlation needs: fewer agree by chance."""
SURE = 0.3
"""Least response of a phase correlation that is believed; a cut between scenes gives about 0.1."""


@dataclass(frozen=True, eq=False)
class CameraFigures:
    """Figures of one image.

    Attributes:
        brightness: Mean grey level in [0, 255].
        contrast: Standard deviation of the grey level.
        sharpness: ``log(1 + variance of the Laplacian)`` of the patch in the middle.
        layout: Light of each cell of `LAYOUT_HW`, less their mean, over their deviation.
        moved: How far the view moved since the image before, across and down, as a fraction of
            width and height; 0 where it cannot be measured.
        is_frozen: Whether every sample equals the image before.
    """

    brightness: float
    contrast: float
    sharpness: float
    layout: NDArray[np.float32]
    moved: tuple[float, float]
    is_frozen: bool


class CameraProbe:
    """Measures the images of one camera, in order; it keeps the samples of the last one."""

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None
        self._taper: NDArray[np.float32] | None = None

    def __call__(self, image: NDArray[np.uint8]) -> CameraFigures:
        """Measure an image, uint8 RGB (H, W, 3)."""
        grey = _grey(image[::STEP, ::STEP])
        before, self._before = self._before, grey
        if before is not None and before.shape != grey.shape:
            before = None
        is_frozen = before is not None and np.array_equal(before, grey)
        deviation = float(grey.std())
        cells = cv2.resize(grey, LAYOUT_HW[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
        return CameraFigures(
            brightness=float(grey.mean()),
            contrast=deviation,
            sharpness=_sharpness(image),
            layout=(cells - cells.mean()) / (cells.std() + 1),
            moved=(0.0, 0.0) if before is None or is_frozen else self._moved(before, grey),
            is_frozen=is_frozen,
        )

    def _moved(self, before: NDArray[np.uint8], grey: NDArray[np.uint8]) -> tuple[float, float]:
        """Correlate two images' phases: the one shift that explains the second by the first."""
        height, width = grey.shape
        if min(height, width) < LEAST_SAMPLES:
            return 0.0, 0.0
        if self._taper is None or self._taper.shape != grey.shape:
            self._taper = np.asarray(cv2.createHanningWindow((width, height), cv2.CV_32F))
        (x, y), response = cv2.phaseCorrelate(
            before.astype(np.float32), grey.astype(np.float32), self._taper
        )
        return (x / width, y / height) if response > SURE else (0.0, 0.0)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), np.uint8)


def _sharpness(image: NDArray[np.uint8]) -> float:
    middle = [side // 2 for side in image.shape[:2]]
    (top, bottom), (left, right) = (
        (max(0, m - size // 2), m + size // 2) for m, size in zip(middle, PATCH_HW, strict=True)
    )
    edges = cv2.Laplacian(_grey(image[top:bottom, left:right]), cv2.CV_32F)
    return float(np.log1p(edges.var()))
