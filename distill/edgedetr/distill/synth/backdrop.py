"""Sky, hills and the ground with its road, painted pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
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
    v = np.arange(rows, dtype=np.float32)
    up = ((rows - v) / rows)[:, None] ** 0.8
    gradient = light.haze + (light.zenith - light.haze) * up
    depth = 900 / (rows - v + 18)
    map_x = (np.arange(width, dtype=np.float32)[None] - camera.cx_px) * depth[:, None] / 9
    map_y = np.repeat(depth[:, None] * 22, width, axis=1)
    offset = rng.uniform(0, TEXTURE_PX, 2)
    noise = _sampled(map_x + offset[0], map_y + offset[1])
    cover = np.clip((noise - (0.72 - 0.5 * light.clouds)) * 4.5, 0, 1) * min(1.0, 2 * light.clouds)
    white = np.clip(light.haze + 35 * (1 - 0.4 * light.clouds), 0, 255).astype(np.float32)
    gradient = gradient.astype(np.float32)[:, None]
    return (gradient + (white - gradient) * (0.85 * cover[..., None])).astype(np.uint8)


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
        fixed = np.rint(points * 16).astype(np.int32)
        cv2.fillPoly(image, [fixed], colour.tolist(), cv2.LINE_AA, 4)


def _ground(
    camera: Camera, road: Road, light: Light, horizon: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    height, width = camera.hw
    v = np.arange(horizon, height, dtype=np.float32)[:, None] + 0.5
    u = np.arange(width, dtype=np.float32)[None] + 0.5
    z = np.float32(camera.focal_px * camera.height_m) / (v - np.float32(camera.cy_px))
    pixel_m = z / np.float32(camera.focal_px)
    lateral = (u - np.float32(camera.cx_px)) * pixel_m
    lateral -= np.float32(road.axis_x) + np.float32(0.5 * road.bend) * z * z
    shade = _albedo(lateral, z, road, rng)
    fade = np.clip(18 / z, 0.15, 1)
    scale = np.float32(TEXTURE_PX / _TEXTURE_M)
    offset = rng.uniform(0, TEXTURE_PX, 2)
    rough = _sampled(lateral * scale + offset[0], np.repeat(z * scale + offset[1], width, axis=1))
    shade *= (1 + (0.5 * (rough - 0.5) * fade))[..., None]
    lit = light.ambient + light.sun * max(-float(light.to_sun[1]), 0.0)
    shade *= lit.astype(np.float32)
    share = (1 - np.exp(-z / light.haze_m))[..., None].astype(np.float32)
    shade += (light.haze.astype(np.float32) - shade) * share
    return np.clip(shade, 0, 255).astype(np.uint8)


def _albedo(lateral: Plane, z: Plane, road: Road, rng: np.random.Generator) -> Plane:
    """Return the ground's own colour (rows, columns, 3): verge, pavement, kerb, road, marks."""
    soft = np.maximum(z / 721, 0.012)
    aside = np.abs(lateral)
    grass = np.array([88.0, 112, 58]) + rng.uniform(-18, 18, 3)
    yard = np.array([128.0, 122, 112]) + rng.uniform(-25, 25)
    verge = grass if rng.random() < 0.6 else yard
    walk = np.full(3, rng.uniform(125, 175)) + rng.uniform(-8, 8, 3)
    asphalt = np.full(3, rng.uniform(78, 128)) + rng.uniform(-5, 5, 3)

    def within(low: float, high: float) -> Plane:
        """Share of each pixel that lies between two distances from the axis."""
        return np.clip((aside - low) / soft + 0.5, 0, 1) * np.clip(
            (high - aside) / soft + 0.5, 0, 1
        )

    in_side = np.zeros_like(z)
    if road.crossing_z:
        near, far = road.crossing_z, road.crossing_z + CROSS_ROAD_M
        deep = soft * z / 1.6
        in_side = np.clip((z - near) / deep + 0.5, 0, 1) * np.clip((far - z) / deep + 0.5, 0, 1)
    off_side = 1 - in_side
    kerb_m = road.half_m + 0.18
    on_walk = within(kerb_m, kerb_m + road.walk_m) * off_side
    on_kerb = within(road.half_m, kerb_m) * off_side
    on_road = np.maximum(within(-1, road.half_m), in_side)
    colour = np.broadcast_to(verge.astype(np.float32), (*lateral.shape, 3)).copy()
    for share, value in ((on_walk, walk), (on_kerb, walk * 1.18), (on_road, asphalt)):
        colour += (value.astype(np.float32) - colour) * share[..., None]
    marks = _marks(lateral, z, road, within) * off_side
    tint = np.float32(rng.uniform(185, 232))
    colour += (tint - colour) * (0.85 * marks)[..., None]
    return np.asarray(colour, np.float32)


def _marks(lateral: Plane, z: Plane, road: Road, within: object) -> Plane:
    """Return which share of each pixel is white paint."""
    assert callable(within)
    marks = np.zeros_like(lateral)
    if road.lines:
        dashed = (np.mod(z, 9.0) < 4.0).astype(np.float32)
        marks = within(-1, 0.07) * dashed
        edge = road.half_m - max(road.parking_m, 0.25)
        marks = np.maximum(marks, within(edge - 0.06, edge + 0.06))
    if road.zebra_z:
        stripes = (np.mod(lateral, 1.0) < 0.5) & (np.abs(lateral) < road.half_m)
        there = (z > road.zebra_z) & (z < road.zebra_z + 3.2)
        marks = np.maximum(marks, (stripes & there).astype(np.float32))
    return np.asarray(marks, np.float32)


def _sampled(x: NDArray[np.floating], y: NDArray[np.floating]) -> Plane:
    """Look the texture up at pixel positions; it repeats."""
    found = cv2.remap(
        texture(),
        np.mod(x, TEXTURE_PX).astype(np.float32),
        np.mod(y, TEXTURE_PX).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
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
    return np.asarray(total / total.max(), np.float32)
