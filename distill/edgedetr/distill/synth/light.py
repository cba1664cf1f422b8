"""The light of one frame: sun, sky, haze, and the camera's response."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Colours = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Light:
    """What falls on a surface, per channel (R, G, B); 1 keeps a surface's own colour.

    Attributes:
        to_sun: Unit vector towards the sun in the camera frame.
        sun: Direct light, (3,).
        ambient: Light of the sky, (3,).
        haze: Colour of the far distance in [0, 255], (3,).
        haze_m: Distance at which haze hides 63 %.
        zenith: Colour of the sky above in [0, 255], (3,).
        clouds: Cover in [0, 1].
    """

    to_sun: Colours
    sun: Colours
    ambient: Colours
    haze: Colours
    haze_m: float
    zenith: Colours
    clouds: float

    @property
    def shadow(self) -> float:
        """How much darker a ground without the sun is, in [0, 1]."""
        direct = float(self.sun.mean()) * max(-float(self.to_sun[1]), 0.0)
        return direct / (direct + float(self.ambient.mean()))

    def shaded(
        self, colours: Colours, normals: Colours, distance_m: float | NDArray[np.float64]
    ) -> Colours:
        """Light surfaces (N, 3) of the given outward normals (N, 3) and veil them with haze."""
        facing = np.maximum(normals @ self.to_sun, 0)[:, None]
        return self.veiled(colours * (self.ambient + self.sun * facing), distance_m)

    def veiled(self, colours: Colours, distance_m: float | NDArray[np.float64]) -> Colours:
        """Mix colours (..., 3) with the haze of their distance."""
        share = 1 - np.exp(-np.asarray(distance_m) / self.haze_m)
        mixed = colours + (self.haze - colours) * share[..., None]
        return np.asarray(np.minimum(np.maximum(mixed, 0), 255), np.float64)


def sample_light(rng: np.random.Generator) -> Light:
    """Draw the light of a frame: sunny, overcast or dusk."""
    mood = rng.choice(["sunny", "overcast", "dusk"], p=[0.5, 0.35, 0.15])
    azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.1)
    if mood == "dusk":
        height = rng.uniform(0.1, 0.3)
    to_sun = np.array(
        [np.cos(height) * np.sin(azimuth), -np.sin(height), np.cos(height) * np.cos(azimuth)]
    )
    blue = rng.uniform(0, 1)
    sunny = Light(
        to_sun,
        np.array([0.78, 0.72, 0.62]) * rng.uniform(0.75, 1.05),
        np.array([0.46, 0.5, 0.56]) * rng.uniform(0.8, 1.1),
        np.array([196.0, 208, 220]) + rng.uniform(-14, 20),
        rng.uniform(250, 600),
        np.array([110.0 - 50 * blue, 155 - 25 * blue, 215]),
        rng.uniform(0, 0.75),
    )
    if mood == "sunny":
        return sunny
    grey = rng.uniform(165, 225)
    if mood == "overcast":
        ambient, sun = np.array([0.8, 0.82, 0.85]) * rng.uniform(0.75, 1.05), np.full(3, 0.14)
        haze, zenith = (
            np.array([grey, grey + 2, grey + 6]),
            np.array([grey - 25, grey - 20, grey - 10]),
        )
        return Light(to_sun, sun, ambient, haze, rng.uniform(110, 400), zenith, rng.uniform(0.3, 1))
    haze = np.array([205.0, 165, 140]) + rng.uniform(-25, 15, 3)
    ambient = np.array([0.38, 0.4, 0.52]) * rng.uniform(0.8, 1.15)
    sun = np.array([0.55, 0.36, 0.2]) * rng.uniform(0.5, 1.1)
    return Light(to_sun, sun, ambient, haze, rng.uniform(200, 500), np.array([70.0, 84, 130]), 0.4)


def photograph(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Apply the camera: slight blur, exposure, colour temperature and sensor noise.

    Args:
        image: Rendered RGB pixels, uint8 (H, W, 3); not changed.
        rng: Source of this frame's settings.

    Returns:
        A new image of the same shape.
    """
    blurred = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.35, 0.75))
    gamma, gain = rng.uniform(0.82, 1.25), rng.uniform(0.82, 1.12)
    warmth = rng.uniform(-0.07, 0.07)
    levels = np.linspace(0, 1, 256)[:, None] ** gamma * gain * (1 + warmth * np.array([1, 0, -1]))
    table = np.clip(levels * 255, 0, 255).astype(np.uint8)[None]
    toned = cv2.LUT(blurred, table)
    height, width = image.shape[:2]
    tile = _noise_tile()
    top, left = (int(rng.integers(0, tile.shape[i] - image.shape[i] + 1)) for i in (0, 1))
    grain = tile[top : top + height, left : left + width]
    sigma = rng.uniform(0.03, 0.14)
    noisy = cv2.addWeighted(toned, 1, grain, sigma, -128 * sigma)
    return np.asarray(noisy, np.uint8)


@lru_cache(maxsize=1)
def _noise_tile() -> NDArray[np.uint8]:
    """Grey-centred Gaussian noise, larger than a frame; each frame takes another window."""
    rng = np.random.default_rng(7)
    shared = rng.normal(0, 28, (640, 1600, 1))
    own = rng.normal(0, 18, (640, 1600, 3))
    return np.clip(128 + shared + own, 0, 255).astype(np.uint8)
