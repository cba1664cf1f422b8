"""Pedestrians and cyclists, built of round-ended limbs between joints.

Joints are (forward, up, side) in metres, relative to the ground point.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from edgedetr.distill.synth.paint import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedetr.distill.synth.camera import Camera, Pose
    from edgedetr.distill.synth.light import Light

    Colour = tuple[float, float, float]
    Joint = tuple[float, float, float]

SKIN: tuple[Colour, ...] = ((232, 190, 160), (205, 155, 120), (150, 105, 75), (100, 70, 50))
HAIR: tuple[Colour, ...] = (
    (40, 30, 25),
    (90, 60, 35),
    (170, 130, 70),
    (130, 130, 130),
    (25, 25, 30),
)
_ARC = np.linspace(-np.pi / 2, np.pi / 2, 6)


class Limb(NamedTuple):
    """The hull of balls.

    Attributes:
        centres: The balls' centres.
        radii_m: Their radii in metres.
        colour: R, G, B in [0, 255].
        back_m: How much farther than it is a limb counts when the painting order is decided.
    """

    centres: tuple[Joint, ...]
    radii_m: tuple[float, ...]
    colour: Colour
    back_m: float = 0.0


def pedestrian_limbs(height_m: float, rng: np.random.Generator) -> list[Limb]:
    """Draw a standing or walking person of a height, in metres."""
    k = height_m / 1.75
    stride = float(rng.uniform(0.0, 0.36)) * k * float(rng.choice([-1, 1]))
    skin, hair = SKIN[rng.integers(len(SKIN))], HAIR[rng.integers(len(HAIR))]
    top, legs, shoes = cloth(rng), cloth(rng, dark=True), cloth(rng, dark=True)
    hips, neck, wide = 0.92 * k, 1.44 * k, 0.17 * k * float(rng.uniform(0.9, 1.15))
    limbs: list[Limb] = []
    for side, step in ((-0.1 * k, stride), (0.1 * k, -stride)):
        knee = (0.55 * step + 0.06 * k, 0.5 * k, side)
        foot = (step, 0.1 * k, side)
        limbs += [
            Limb((foot, knee), (0.052 * k, 0.065 * k), legs, 0.4),
            Limb((knee, (0, hips, side * 0.8)), (0.068 * k, 0.092 * k), legs, 0.4),
            Limb(
                ((step - 0.05 * k, 0.045 * k, side), (step + 0.14 * k, 0.04 * k, side)),
                (0.045 * k, 0.038 * k),
                shoes,
            ),
        ]
    arms = [
        _arm(side, swing, neck, k, (top, skin), bent=bool(rng.random() < 0.3))
        for side, swing in ((-wide - 0.05 * k, -stride), (wide + 0.05 * k, stride))
    ]
    limbs += arms[0]
    limbs += _torso(k, hips, neck, wide, top, rng)
    limbs += arms[1]
    if rng.random() < 0.25:
        bag = cloth(rng)
        limbs.append(
            Limb(((-0.2 * k, 1.34 * k, 0), (-0.2 * k, 1.02 * k, 0)), (0.13 * k, 0.14 * k), bag)
        )
    return limbs + head((0.02 * k, 1.61 * k, 0), k, skin, hair)


def cyclist_limbs(height_m: float, rng: np.random.Generator) -> list[Limb]:
    """Draw a rider on a bicycle; the height is the rider's on the bicycle, in metres."""
    k = height_m / 1.75
    frame, skin = cloth(rng), SKIN[rng.integers(len(SKIN))]
    top, legs = cloth(rng), cloth(rng, dark=True)
    limbs = bicycle_limbs(k, frame)
    phase = float(rng.uniform(0, 2 * np.pi))
    hip, lean = (-0.2 * k, 1.0 * k), float(rng.uniform(0.1, 0.34)) * k
    shoulder = (hip[0] + lean + 0.06 * k, 1.46 * k)
    sides = []
    for side, turn in ((-0.1 * k, phase), (0.1 * k, phase + np.pi)):
        foot = (0.02 + 0.17 * k * np.cos(turn), 0.34 * k + 0.17 * k * np.sin(turn), side)
        knee = (0.16 * k + 0.4 * foot[0], 0.36 * k + 0.32 * foot[1] + 0.24 * k, side * 1.2)
        sides.append(
            [
                Limb((foot, knee), (0.05 * k, 0.065 * k), legs),
                Limb((knee, (hip[0], hip[1], side)), (0.07 * k, 0.1 * k), legs),
                Limb(
                    (foot, (foot[0] + 0.14 * k, foot[1] - 0.02, side)),
                    (0.045 * k, 0.04 * k),
                    (30, 30, 34),
                ),
                Limb(
                    (
                        (shoulder[0], shoulder[1] - 0.03 * k, 1.9 * side),
                        (0.22 * k, 1.16 * k, 2.4 * side),
                    ),
                    (0.058 * k, 0.048 * k),
                    top,
                ),
                Limb(
                    ((0.22 * k, 1.16 * k, 2.4 * side), (0.38 * k, 1.04 * k, 2.3 * side)),
                    (0.048 * k, 0.045 * k),
                    skin,
                ),
            ]
        )
    body = Limb(
        (
            (hip[0], hip[1], -0.08 * k),
            (hip[0], hip[1], 0.08 * k),
            (shoulder[0], shoulder[1], 0.15 * k),
            (shoulder[0], shoulder[1], -0.15 * k),
        ),
        (0.12 * k, 0.12 * k, 0.08 * k, 0.08 * k),
        top,
    )
    limbs += [*sides[0], body, *sides[1]]
    if rng.random() < 0.25:
        at = shoulder[0] - 0.2 * k
        limbs.append(
            Limb(((at, 1.42 * k, 0), (at - 0.1 * k, 1.12 * k, 0)), (0.11 * k, 0.13 * k), cloth(rng))
        )
    helmet = cloth(rng) if rng.random() < 0.55 else HAIR[rng.integers(len(HAIR))]
    return limbs + head((shoulder[0] + 0.1 * k, shoulder[1] + 0.19 * k, 0), k, skin, helmet)


def bicycle_limbs(k: float, frame: Colour) -> list[Limb]:
    """Draw a bicycle; ``k`` scales it, 1 is a wheelbase of 1.06 m."""
    tyre: Colour = (28, 28, 30)
    limbs = []
    turn = np.linspace(0, 2 * np.pi, 15)
    for hub in (-0.53 * k, 0.53 * k):
        ring = [(hub + 0.33 * k * np.cos(t), 0.35 * k + 0.33 * k * np.sin(t), 0.0) for t in turn]
        limbs += [Limb((a, b), (0.026, 0.026), tyre) for a, b in pairwise(ring)]
        limbs += [Limb((ring[i], ring[i + 7]), (0.006, 0.006), (150, 150, 155)) for i in (0, 3, 5)]
    rear, front = (-0.53 * k, 0.35 * k, 0.0), (0.53 * k, 0.35 * k, 0.0)
    crank, seat, stem = (0.0, 0.34 * k, 0.0), (-0.17 * k, 0.86 * k, 0.0), (0.36 * k, 0.84 * k, 0.0)
    bar = (0.38 * k, 1.0 * k, 0.0)
    bones = ((rear, crank), (crank, seat), (seat, rear), (crank, stem), (seat, stem), (stem, front))
    limbs += [Limb(b, (0.022, 0.022), frame) for b in bones]
    limbs += [
        Limb((stem, bar), (0.02, 0.02), (60, 60, 64)),
        Limb(
            ((0.36 * k, 1.02 * k, -0.27 * k), (0.36 * k, 1.02 * k, 0.27 * k)), (0.022, 0.022), tyre
        ),
        Limb(((-0.3 * k, 0.9 * k, 0), (-0.08 * k, 0.91 * k, 0)), (0.05, 0.03), tyre),
    ]
    return limbs


def head(at: Joint, k: float, skin: Colour, hair: Colour) -> list[Limb]:
    """Draw a head: its hair or helmet lies behind and above the face."""
    forward, up, side = at
    return [
        Limb(((forward - 0.02 * k, up - 0.1 * k, side),), (0.06 * k,), skin),
        Limb(((forward - 0.025 * k, up + 0.02 * k, side),), (0.115 * k,), hair),
        Limb(
            (
                (forward + 0.045 * k, up - 0.015 * k, side),
                (forward + 0.03 * k, up - 0.05 * k, side),
            ),
            (0.088 * k, 0.075 * k),
            skin,
        ),
    ]


def cloth(rng: np.random.Generator, *, dark: bool = False) -> Colour:
    """Draw the colour of a piece of clothing."""
    grey = rng.uniform(25, 130 if dark else 235)
    vivid = 0.25 if dark else rng.uniform(0.2, 0.9)
    tint = rng.uniform(-110, 110, 3) * vivid
    r, g, b = np.clip(grey + tint, 12, 245).tolist()
    return r, g, b


def limb_parts(limbs: list[Limb], pose: Pose, camera: Camera, light: Light) -> list[Part]:
    """Project limbs from far to near and light them from the sky and the sun."""
    counts = [len(limb.centres) for limb in limbs]
    joints = np.array([c for limb in limbs for c in limb.centres], np.float64)
    radii = np.array([r for limb in limbs for r in limb.radii_m])
    points = pose.to_camera(joints, camera)
    pixels = camera.project(points)
    radii_px = np.maximum(radii * camera.focal_px / points[:, 2], 0.35)
    starts = np.cumsum([0, *counts])
    depth = np.add.reduceat(points[:, 2], starts[:-1]) / np.array(counts)
    depth += [limb.back_m for limb in limbs]
    towards = -np.array([pose.x, 0.0, pose.z]) / np.hypot(pose.x, pose.z)
    normals = np.repeat((towards - np.array([0, 0.5, 0]))[None] / np.hypot(1, 0.5), len(limbs), 0)
    colours = light.shaded(np.array([limb.colour for limb in limbs]), normals, pose.z)
    parts = []
    for k in np.argsort(-depth, kind="stable").tolist():
        chosen = slice(starts[k], starts[k + 1])
        outline = _outline(pixels[chosen], radii_px[chosen])
        colour = colours[k]
        parts.append(Part(outline, tuple(colour.tolist())))
        if radii_px[chosen].max() > 4:
            lit = np.sign(-light.to_sun[0] or 1.0)
            shade = _outline(
                pixels[chosen] + np.stack([lit, 0 * lit]) * 0.5 * radii_px[chosen][:, None],
                0.5 * radii_px[chosen],
            )
            parts.append(Part(shade, tuple((0.82 * colour).tolist())))
    return parts


def _outline(centres: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the hull of circles in pixels, (N, 2)."""
    if len(centres) == 2:
        along = centres[1] - centres[0]
        angle = np.arctan2(along[1], along[0])
        turn = np.concatenate([_ARC + angle, _ARC + angle + np.pi])
        which = np.repeat([1, 0], len(_ARC))
    else:
        turn = np.tile(np.arange(12) * np.pi / 6, len(centres))
        which = np.repeat(np.arange(len(centres)), 12)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    points = centres[which] + radii[which, None] * circle
    if len(centres) <= 2:
        return np.asarray(points, np.float64)
    hull = cv2.convexHull(points.astype(np.float32))
    return np.asarray(hull[:, 0], np.float64)


def _arm(
    side: float, swing: float, neck: float, k: float, colours: tuple[Colour, Colour], *, bent: bool
) -> list[Limb]:
    sleeve, skin = colours
    shoulder = (0.0, neck - 0.05 * k, side)
    elbow = (0.35 * swing - 0.03 * k, 1.13 * k, side * 1.12)
    hand = (
        (0.22 * k, 1.2 * k, side * 0.7) if bent else (0.8 * swing + 0.06 * k, 0.88 * k, side * 1.15)
    )
    return [
        Limb((shoulder, elbow), (0.06 * k, 0.052 * k), sleeve),
        Limb((elbow, hand), (0.05 * k, 0.042 * k), sleeve),
        Limb((hand,), (0.05 * k,), skin),
    ]


def _torso(
    k: float, hips: float, neck: float, wide: float, colour: Colour, rng: np.random.Generator
) -> list[Limb]:
    low = hips - 0.03 * k if rng.random() < 0.7 else float(rng.uniform(0.5, 0.75)) * k
    flare = 0.1 * k if low > 0.8 * k else 0.14 * k
    bottom = ((0.0, low, -flare), (0.0, low, flare))
    upper = ((0.0, neck - 0.06 * k, wide), (0.0, neck - 0.06 * k, -wide))
    return [Limb(bottom + upper, (0.1 * k, 0.1 * k, 0.08 * k, 0.08 * k), colour)]
