"""What stands beside the road and is no object: buildings, trees, poles, signs, bins."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedetr.distill.synth.backdrop import texture
from edgedetr.distill.synth.camera import NEAREST_M, Pose
from edgedetr.distill.synth.paint import Canvas, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.distill.synth.camera import Camera
    from edgedetr.distill.synth.light import Light

_WHOLE = np.array([[0.0, 0, 1, 1]])
_SPRITES = 10
_SPRITE_PX = 192
_WALLS = (
    (214, 200, 176),
    (190, 150, 120),
    (160, 96, 76),
    (200, 204, 206),
    (226, 214, 160),
    (150, 152, 158),
)
_ROOFS = ((132, 66, 50), (96, 60, 52), (84, 86, 92))


class Block:
    """An upright box on the ground."""

    def __init__(self, pose: Pose, size_m: Sequence[float], camera: Camera, light: Light) -> None:
        self.pose, self.size_m, self.camera, self.light = pose, size_m, camera, light

    def parts(
        self, layers: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]
    ) -> list[Part]:
        """Paint layers on each side that faces the camera.

        Args:
            layers: Rectangles (K, 4) as u0, v0, u1, v1 in a side's own coordinates, v upwards,
                and their colour in [0, 255].
        """
        height, width, length = self.size_m
        a, b = length / 2, width / 2
        corners = _quads(np.concatenate([rectangles for rectangles, _ in layers]))
        colours = np.stack([colour for _, colour in layers])
        ends = np.cumsum([len(rectangles) for rectangles, _ in layers])
        parts: list[Part] = []
        for (f0, s0), (f1, s1) in (
            ((-a, -b), (a, -b)),
            ((a, b), (-a, b)),
            ((a, -b), (a, b)),
            ((-a, b), (-a, -b)),
        ):
            local = np.array([(f0, 0, s0), (f1, 0, s1), (f1, height, s1), (f0, height, s0)])
            side = self.pose.to_camera(local, self.camera)
            normal = side[:2].mean(0) - (self.pose.x, side[0, 1], self.pose.z)
            normal /= np.linalg.norm(normal)
            if side[:, 2].min() < NEAREST_M or side[0] @ normal >= 0:
                continue
            shades = self.light.shaded(colours, normal[None], float(side[:, 2].mean()))
            pixels = self.camera.project(corners @ side)
            parts += [
                Part(polygons, tuple(shade.tolist()))
                for polygons, shade in zip(np.split(pixels, ends[:-1]), shades, strict=True)
            ]
        return parts


def building_parts(
    pose: Pose, size_m: Sequence[float], camera: Camera, light: Light, rng: np.random.Generator
) -> list[Part]:
    """Paint a house: walls, rows of windows, a door line and a roof edge."""
    wall = np.array(_WALLS[rng.integers(len(_WALLS))], np.float64) + rng.uniform(-20, 20, 3)
    height, _, length = size_m
    floors, columns = max(1, round(height / 3.1)), max(2, round(length / 2.8))
    pane_w, pane_h = rng.uniform(0.35, 0.6), rng.uniform(0.42, 0.62)
    u, v = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(floors) + 0.55) / floors)
    half = np.array([pane_w / columns / 2, pane_h / floors / 2])
    centres = np.stack([u.ravel(), v.ravel()], axis=1)
    panes = np.concatenate([centres - half, centres + half], axis=1)
    frames = np.concatenate([centres - 1.25 * half, centres + 1.18 * half], axis=1)
    glass = np.array([52.0, 60, 70]) + rng.uniform(-20, 30)
    plinth = np.array([[0, 0, 1, 0.5 / height]])
    roof = np.array(_ROOFS[rng.integers(len(_ROOFS))], np.float64)
    eaves = np.array([[0, 1 - 0.25 * rng.uniform(0.5, 4) / height, 1, 1]])
    layers = [
        (_WHOLE, wall),
        (plinth, wall * 0.6),
        (frames, np.clip(wall * 1.2, 0, 250)),
        (panes, glass),
        (eaves, roof),
    ]
    return Block(pose, size_m, camera, light).parts(layers)


def wall_parts(
    pose: Pose, size_m: Sequence[float], camera: Camera, light: Light, rng: np.random.Generator
) -> list[Part]:
    """Paint a garden wall or a fence."""
    colour = np.array(_WALLS[rng.integers(len(_WALLS))], np.float64) * rng.uniform(0.5, 0.95)
    count = max(2, int(size_m[2] / 1.5))
    starts = np.arange(count) / count
    gaps = np.stack([starts, 0 * starts, starts + 0.12 / count, 0 * starts + 1], axis=1)
    top = np.array([[0, 0.9, 1, 1]])
    layers = [(_WHOLE, colour), (gaps, colour * 0.8), (top, colour * 1.15)]
    return Block(pose, size_m, camera, light).parts(layers)


def bin_parts(pose: Pose, camera: Camera, light: Light, rng: np.random.Generator) -> list[Part]:
    """Paint a waste bin or a cabinet."""
    size = (rng.uniform(0.9, 1.3), rng.uniform(0.4, 0.7), rng.uniform(0.4, 0.8))
    colour = np.array([[60, 90, 60], [60, 64, 70], [150, 140, 60], [120, 124, 128]], np.float64)
    chosen = colour[rng.integers(len(colour))]
    lid = np.array([[0, 0.84, 1, 1]])
    layers = [(_WHOLE, chosen), (lid, chosen * 0.6)]
    return Block(pose, size, camera, light).parts(layers)


def pole_parts(pose: Pose, camera: Camera, light: Light, rng: np.random.Generator) -> list[Part]:
    """Paint a lamp post, or a post with a sign."""
    is_lamp = rng.random() < 0.45
    height, radius = (rng.uniform(5, 8), 0.08) if is_lamp else (rng.uniform(2.2, 3.0), 0.035)
    scale = camera.focal_px / pose.z
    foot = camera.project(np.array([pose.x, camera.height_m, pose.z]))
    r, h = max(radius * scale, 0.6), height * scale
    grey = np.full(3, rng.uniform(80, 150)) * light.ambient
    post = foot + np.array([(-r, 0), (r, 0), (r * 0.8, -h), (-r * 0.8, -h)])
    parts = [Part(post, tuple(light.veiled(grey, pose.z).tolist()))]
    lit = light.ambient + 0.4 * light.sun
    if is_lamp:
        arm = np.sign(-pose.x) * 1.5 * scale
        tip = foot + np.array(
            [(0, -h), (arm, -h - 0.2 * scale), (arm, -h - 0.08 * scale), (0, -h + 2 * r)]
        )
        return [*parts, Part(tip, parts[0].colour)]
    count = int(rng.choice([3, 4, 24, 24]))
    turn = np.arange(count) * 2 * np.pi / count - np.pi / 2
    size = 0.36 * scale
    middle = foot + np.array([0, -h + 0.8 * size])
    faces = (
        ((1.0, (196, 40, 36)), (0.74, (235, 235, 230)))
        if rng.random() < 0.6
        else ((1.0, (40, 84, 180)), (0.4, (230, 230, 230)))
    )
    for share, colour in faces:
        ring = middle + share * size * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        parts.append(Part(ring, tuple(light.veiled(np.array(colour) * lit, pose.z).tolist())))
    return parts


def paint_tree(
    canvas: Canvas,
    pose: Pose,
    camera: Camera,
    light: Light,
    rng: np.random.Generator,
    *,
    bush: bool,
) -> None:
    """Paint a tree with its trunk, or a bush."""
    scale = camera.focal_px / pose.z
    foot = camera.project(np.array([pose.x, camera.height_m, pose.z]))
    wide = (rng.uniform(1.2, 2.6) if bush else rng.uniform(2.6, 5.5)) * scale
    tall = wide * rng.uniform(0.6, 0.9) if bush else wide * rng.uniform(0.9, 1.35)
    trunk = 0.0 if bush else rng.uniform(1.9, 3.0) * scale
    bark = light.veiled(np.array([78.0, 62, 48]) * (light.ambient + 0.3 * light.sun), pose.z)
    if not bush:
        r = rng.uniform(0.1, 0.2) * scale
        post = foot + np.array(
            [(-r, 0), (r, 0), (0.6 * r, -trunk - 0.3 * tall), (-0.6 * r, -trunk - 0.3 * tall)]
        )
        canvas.paint([Part(post, tuple(bark.tolist()))])
    green = np.array([74.0, 100, 46]) + rng.uniform(-25, 25, 3) * (1, 0.8, 0.6)
    if rng.random() < 0.12:
        green = np.array([150.0, 105, 45])
    colour = green * (light.ambient + 0.6 * light.sun) * 1.25
    size = (max(int(wide), 2), max(int(tall), 2))
    sprite = cv2.resize(
        _crowns()[int(rng.integers(_SPRITES))], size, interpolation=cv2.INTER_LINEAR
    )
    levels = np.linspace(0, 1, 256)[:, None] * colour
    table = light.veiled(levels, pose.z).astype(np.uint8)
    shade, cover = cv2.split(sprite)
    layers = [cv2.LUT(shade, column) for column in table.T]
    tinted = np.asarray(cv2.merge([*layers, cover]), np.uint8)
    lift = 0.12 * tall if bush else 0.0
    canvas.blend(tinted, int(foot[0] - wide / 2), int(foot[1] - trunk - tall + lift))


@lru_cache(maxsize=1)
def _crowns() -> tuple[NDArray[np.uint8], ...]:
    """Make crowns of leaves: brightness and coverage, uint8 (_SPRITE_PX, _SPRITE_PX, 2)."""
    rng = np.random.default_rng(11)
    made = []
    y, x = np.mgrid[-1 : 1 : _SPRITE_PX * 1j, -1 : 1 : _SPRITE_PX * 1j]
    for _ in range(_SPRITES):
        field = np.zeros_like(x)
        top = np.zeros_like(x)
        for _ in range(26):
            angle, reach, r = (
                rng.uniform(0, 2 * np.pi),
                rng.uniform(0, 0.62) ** 0.7,
                rng.uniform(0.18, 0.34),
            )
            ball = 1 - ((x - reach * np.cos(angle)) ** 2 + (y - reach * np.sin(angle)) ** 2) / r**2
            higher = ball > field
            field = np.maximum(field, ball)
            shine = 0.62 - 0.3 * reach * np.sin(angle) + 0.25 * np.clip(ball, 0, 1)
            top = np.where(higher, shine, top)
        corner = rng.integers(0, 1024 - _SPRITE_PX, 2)
        leaves = texture()[corner[0] :, corner[1] :][:_SPRITE_PX, :_SPRITE_PX]
        fine = rng.random((_SPRITE_PX // 2, _SPRITE_PX // 2)).astype(np.float32)
        speckle = cv2.resize(fine, (_SPRITE_PX, _SPRITE_PX), interpolation=cv2.INTER_LINEAR)
        cover = np.clip((field - 0.35 * speckle - 0.1 * leaves) * 6, 0, 1)
        shade = np.clip(top * (0.6 + 0.5 * leaves + 0.55 * (speckle - 0.5)), 0.08, 1)
        made.append((np.stack([shade, cover], axis=-1) * 255).astype(np.uint8))
    return tuple(made)


def _quads(rectangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights (K, 4, 4) of a side's corners for the corners of rectangles (K, 4)."""
    u, v = rectangles[:, [0, 2, 2, 0]], rectangles[:, [1, 1, 3, 3]]
    return np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=2)
