"""The two values that cross the runtime's border: a frame in, detections out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MAX_SIDE_PX = 16_384
"""Longest side of a frame; OpenCV's resize takes twice that."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image.

    Attributes:
        image: RGB pixels, uint8 of shape (H, W, 3), sides of 1 to `MAX_SIDE_PX` pixels.
        timestamp_ns: Capture time on the vehicle's monotonic clock, in nanoseconds.
        frame_id: Name of the frame, for example ``"000042"``.
    """

    image: NDArray[np.uint8]
    timestamp_ns: int = 0
    frame_id: str = ""

    def __post_init__(self) -> None:
        shape = getattr(self.image, "shape", None)
        kind = getattr(self.image, "dtype", type(self.image).__name__)
        if kind != "uint8" or not shape or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(
                f"a frame's image must be uint8 of shape (H, W, 3), got {kind} {shape}"
            )
        if max(shape) > MAX_SIDE_PX:
            raise ValueError(f"a frame's sides must be at most {MAX_SIDE_PX} pixels, got {shape}")


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects found in one frame, best first.

    Attributes:
        boxes: Corners (x0, y0, x1, y1) in pixels of the source image, float32 of shape (N, 4).
        scores: Confidence in [0, 1], float32 of shape (N,).
        labels: Indices into the model's class names, int64 of shape (N,).
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes.shape != (n, 4) or self.labels.shape != (n,):
            raise ValueError(
                f"boxes {self.boxes.shape}, scores {self.scores.shape} and labels "
                f"{self.labels.shape} must be (N, 4), (N,) and (N,)"
            )

    def __len__(self) -> int:
        return len(self.scores)
