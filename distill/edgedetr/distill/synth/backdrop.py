"""Sky, hills and the ground with its road, painted pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedetr.distill.synth.paint import SHIFT, fixed_point

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgedetr.distill.synth.camera import Camera
    from edgedetr.distill.synth.light import Light

    Plane = NDArray[np.float32]

TEXTURE_PX = 1024
_TEXTURE_M = 14.0
"""The ground's texture repeats after this many metres."""


@dataclass(frozen=True)
class Road:
    """A road along z; lateral positions in metres from its axis, which bends with z.

    Attributes:
        axis_x: Where the axis passes the camera; the camera drives right of it.
        bend: Curvature in 1/m.
        half_m: Half width between the kerbs.
        walk_m: Width of the pavements.
        parking_m: Width of a parking strip inside the kerbs, 0 for none.
        crossing_z: Where a side road begins, or 0 for none.
        zebra_z: Where a zebra crossing begins, or 0 for none.
        lines: Whether the axis and the edges are marked.
    """

    axis_x: float
    bend: float
    half_m: float
    walk_m: float
    parking_m: float
    crossing_z: float
    zebra_z: float
    lines: bool

    def x_at(self, lateral: float, z: float) -> float:
        """Return the camera's x of a lateral position at a distance."""
        return self.axis_x + lateral + 0.5 * self.bend * z * z

    def heading(self, z: float) -> float:
        """Return how far the road has turned to the right at a distance, in radians."""
        return float(np.arctan(self.bend * z))


CROSS_ROAD_M = 7.0


def sample_road(rng: np.random.Generator) -> Road:
    """Draw a road: narrow street to wide avenue, straight or bent, with or without marks."""
    parking = float(rng.choice([0.0, 2.1], p=[0.45, 0.55]))
    half = float(rng.uniform(2.9, 4.4)) + parking * 0.9
    lane = half - parking
    return Road(
        axis_x=-lane * float(rng.uniform(0.4, 0.6)),
        bend=float(rng.normal(0, 0.0016)) if rng.random() < 0.7 else 0.0,
        half_m=half,
        walk_m=float(rng.uniform(1.6, 4.0)),
        parking_m=parking,
        crossing_z=float(rng.uniform(12, 34)) if rng.random() < 0.38 else 0.0,
        zebra_z=float(rng.uniform(9, 24)) if rng.random() < 0.2 else 0.0,
        lines=bool(rng.random() < 0.7),
    )


def backdrop(
    camera: Camera, road: Road, light: Light, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Paint everything that no object can stand behind, uint8 (H, W, 3) RGB."""
    height, width = camera.hw
    horizon = int(np.ceil(camera.cy_px)) + 1
    image = np.empty((height, width, 3), np.uint8)
    image[:horizon] = _sky(camera, light, horizon, rng)
    _hills(image, camera, light, rng)
    image[horizon:] = _ground(camera, road, light, horizon, rng)
    return image


def _sky(camera: Camera, light: Light, rows: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    width = camera.hw[1]
    row = np.arange(rows, dtype=np.float32)[:, None]
    up = ((rows - row) / rows) ** 0.8
    depth = 900 / (rows - row + 18)
    column = np.arange(width, dtype=np.float32)[None] - np.float32(camera.cx_px)
    offset = rng.uniform(0, TEXTURE_PX, 2).astype(np.float32)
    cover = _sampled(column * (depth / 9) + offset[0], depth * 22 + offset[1])
    cover -= np.float32(0.72 - 0.5 * light.clouds)
    cover = np.minimum(np.maximum(cover * np.float32(4.5), 0), 1)
    cover *= np.float32(0.85 * min(1.0, 2 * light.clouds))
    white = np.clip(light.haze + 35 * (1 - 0.4 * light.clouds), 0, 255)
    planes = []
    for haze, zenith, cloud in zip(light.haze, light.zenith, white, strict=True):
        clear = (haze + (zenith - haze) * up).astype(np.float32)
        planes.append((clear + (np.float32(cloud) - clear) * cover).astype(np.uint8))
    return np.asarray(cv2.merge(planes), np.uint8)


def _hills(
    image: NDArray[np.uint8], camera: Camera, light: Light, rng: np.random.Generator
) -> None:
    width = camera.hw[1]
    base = camera.cy_px + 2
    for distance, height_px, knots in ((420, 46, 7), (200, 26, 40), (110, 20, 120)):
        if rng.random() < 0.25:
            continue
        steps = rng.uniform(0.15, 1, knots) * height_px * rng.uniform(0.5, 1.2)
        columns = np.arange(0, width + 4, 4)
        top = np.interp(columns, np.linspace(0, width, knots), steps)
        outline = np.stack([columns, base - top], axis=1)
        floor = np.array([[width + 4, base + 3], [0, base + 3]])
        green = np.array([70.0, 88, 52]) + rng.uniform(-22, 22, 3)
        colour = light.veiled(green * light.ambient * 1.15, distance)
        points = np.concatenate([outline, floor])
        cv2.fillPoly(
            image, [fixed_point(points.astype(np.float64))], colour.tolist(), cv2.LINE_AA, SHIFT
        )


def _ground(
    camera: Camera, road: Road, light: Light, horizon: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    height, width = camera.hw
    v = np.arange(horizon, height, dtype=np.float32)[:, None] + 0.5
    u = np.arange(width, dtype=np.float32)[None] + 0.5
    z = np.float32(camera.focal_px * camera.height_m) / (v - np.float32(camera.cy_px))
    bend = np.float32(road.axis_x) + np.float32(0.5 * road.bend) * z * z
    x = (u - np.float32(camera.cx_px)) * (z / np.float32(camera.focal_px))
    lateral = np.asarray(x - bend, np.float32)
    albedo = _albedo(lateral, z, road, rng)
    scale = np.float32(TEXTURE_PX / _TEXTURE_M)
    offset = rng.uniform(0, TEXTURE_PX, 2).astype(np.float32)
    rough = _sampled(lateral * scale + offset[0], z * scale + offset[1])
    clear = np.exp(-z / np.float32(light.haze_m))
    fade = np.minimum(np.maximum(18 / z, np.float32(0.15)), 1)
    rough = ((rough - np.float32(0.5)) * (0.5 * fade) + 1) * clear
    lit = light.ambient + light.sun * max(-float(light.to_sun[1]), 0.0)
    planes = []
    for plane, gain, haze in zip(albedo, lit.tolist(), light.haze.tolist(), strict=True):
        seen = plane * (rough * np.float32(gain)) + (1 - clear) * np.float32(haze)
        planes.append(np.minimum(seen, 255).astype(np.uint8))
    return np.asarray(cv2.merge(planes), np.uint8)


def _albedo(lateral: Plane, z: Plane, road: Road, rng: np.random.Generator) -> list[Plane]:
    """Return the ground's own R, G and B, each (rows, columns): verge, pavement, kerb, road."""
    inverse = (1 / np.maximum(z / 721, 0.012)).astype(np.float32)
    aside = np.abs(lateral)
    grass = np.array([88.0, 112, 58]) + rng.uniform(-18, 18, 3)
    yard = np.array([128.0, 122, 112]) + rng.uniform(-25, 25)
    verge = grass if rng.random() < 0.6 else yard
    walk = np.full(3, rng.uniform(125, 175)) + rng.uniform(-8, 8, 3)
    asphalt = np.full(3, rng.uniform(78, 128)) + rng.uniform(-5, 5, 3)

    def beyond(limit: float) -> Plane:
        """Share of each pixel that lies farther from the axis than a limit in metres."""
        share = (aside - np.float32(limit)) * inverse
        share += np.float32(0.5)
        np.minimum(np.maximum(share, 0, out=share), 1, out=share)
        return share

    kerb_m = road.half_m + 0.18
    off_side = 1 - _side_road(z, road)
    off_road = beyond(road.half_m) * off_side
    off_kerb = beyond(kerb_m) * off_side
    off_walk = beyond(kerb_m + road.walk_m) * off_side
    marks = _marks(lateral, z, road, beyond) * off_side * np.float32(0.85)
    paint = float(rng.uniform(185, 232))
    planes = []
    for channel in range(3):
        ground, stone, tar = (float(c[channel]) for c in (verge, walk, asphalt))
        plane = np.float32(1.18 * stone - tar) * off_road
        plane += np.float32(stone - 1.18 * stone) * off_kerb
        plane += np.float32(ground - stone) * off_walk
        plane += np.float32(tar)
        plane += (np.float32(paint) - plane) * marks
        planes.append(plane)
    return planes


def _side_road(z: Plane, road: Road) -> Plane:
    """Return which share of each row belongs to the crossing road, (rows, 1)."""
    if not road.crossing_z:
        return np.zeros_like(z)
    sharpness = 1 / (np.maximum(z / 721, 0.012) * z / 1.6)
    after_near = np.clip((z - road.crossing_z) * sharpness + 0.5, 0, 1)
    before_far = np.clip((road.crossing_z + CROSS_ROAD_M - z) * sharpness + 0.5, 0, 1)
    return np.asarray(after_near * before_far, np.float32)


def _marks(lateral: Plane, z: Plane, road: Road, beyond: Callable[[float], Plane]) -> Plane:
    """Return which share of each pixel is white paint."""
    marks = np.zeros_like(lateral)
    if road.lines:
        dashed = (np.mod(z, 9.0) < 4.0).astype(np.float32)
        edge = road.half_m - max(road.parking_m, 0.25)
        marks = (1 - beyond(0.07)) * dashed + beyond(edge - 0.06) - beyond(edge + 0.06)
    if road.zebra_z:
        rows = np.flatnonzero((z[:, 0] > road.zebra_z) & (z[:, 0] < road.zebra_z + 3.2))
        near = lateral[rows]
        stripes = (near - np.floor(near) < 0.5) & (np.abs(near) < road.half_m)
        marks[rows] = np.maximum(marks[rows], stripes)
    return marks


def _sampled(x: Plane, y: Plane) -> Plane:
    """Look the texture up at pixel positions (rows, columns) and (rows, 1); it repeats."""
    size = np.float32(TEXTURE_PX)
    map_x = x - size * np.floor(x * (1 / size))
    map_y = np.repeat(y - size * np.floor(y / size), x.shape[1], axis=1)
    found = cv2.remap(texture(), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(found, np.float32)


@lru_cache(maxsize=1)
def texture() -> Plane:
    """Make a tile of noise of several octaves in [0, 1], (TEXTURE_PX, TEXTURE_PX)."""
    rng = np.random.default_rng(3)
    total = np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32)
    for octave, weight in ((8, 1.0), (16, 0.8), (64, 0.5), (256, 0.45), (1024, 0.5)):
        coarse = rng.random((octave, octave)).astype(np.float32)
        wrapped = np.pad(coarse, 2, mode="wrap")
        ratio = TEXTURE_PX // octave
        fine = cv2.resize(wrapped, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_CUBIC)
        cut = 2 * ratio
        total += weight * fine[cut : cut + TEXTURE_PX, cut : cut + TEXTURE_PX]
    total -= total.min()
    total /= total.max()
    return total
