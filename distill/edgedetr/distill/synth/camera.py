"""A pinhole camera over a flat ground, and where an object stands in front of it.

Camera frame as in KITTI: x to the right, y down, z forward, metres; the ground is y = height_m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAREST_M = 0.8
"""Nothing is painted closer to the camera than this."""


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels and the height above the ground in metres."""

    focal_px: float
    cx_px: float
    cy_px: float
    height_m: float
    hw: tuple[int, int]

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project camera-frame points (..., 3) to pixels (..., 2)."""
        scale = self.focal_px / np.maximum(points[..., 2:], NEAREST_M)
        centre = np.array([self.cx_px, self.cy_px])
        projected: NDArray[np.float64] = points[..., :2] * scale + centre
        return projected

    def projection(self) -> NDArray[np.float64]:
        """Return KITTI's P2, (3, 4)."""
        return np.array(
            [
                [self.focal_px, 0, self.cx_px, 0],
                [0, self.focal_px, self.cy_px, 0],
                [0, 0, 1, 0],
            ]
        )


@dataclass(frozen=True)
class Pose:
    """Where an object stands: its ground point (x, z) and its heading about the camera's y axis.

    A heading of 0 looks along x, of -pi/2 away from the camera (KITTI's ``rotation_y``).
    """

    x: float
    z: float
    rotation_y: float

    @property
    def alpha(self) -> float:
        """KITTI's observation angle, in (-pi, pi]."""
        return wrapped(self.rotation_y - math.atan2(self.x, self.z))

    def to_camera(self, local: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
        """Move points (..., 3) given as (forward, up, side) in metres into the camera frame."""
        c, s = math.cos(self.rotation_y), math.sin(self.rotation_y)
        forward, up, side = local[..., 0], local[..., 1], local[..., 2]
        return np.stack(
            [
                self.x + c * forward + s * side,
                camera.height_m - up,
                self.z - s * forward + c * side,
            ],
            axis=-1,
        )


def wrapped(angle: float) -> float:
    """Bring an angle in radians into (-pi, pi].

    >>> round(wrapped(3.5 * math.pi) / math.pi, 3)
    -0.5
    """
    return math.pi - (math.pi - angle) % (2 * math.pi)
