"""What stands where: traffic, people and street furniture along a road."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.distill.synth.backdrop import CROSS_ROAD_M, Road, sample_road
from edgedetr.distill.synth.bodies import STYLES
from edgedetr.distill.synth.camera import Camera, Pose, wrapped
from edgedetr.distill.synth.light import Light, sample_light
from edgedetr.distill.synth.people import Limb, cyclist_limbs, pedestrian_limbs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

IMAGE_HW = (375, 1242)
EMPTY_SHARE = 0.04
"""Share of the frames that hold no object at all."""
AWAY = -math.pi / 2
_CAR_STYLES = tuple(name for name, style in STYLES.items() if style.kind == "Car")
_VAN_STYLES = tuple(name for name, style in STYLES.items() if style.kind == "Van")
_PAINTS = (
    (225, 225, 226),
    (190, 193, 198),
    (120, 124, 130),
    (62, 66, 74),
    (30, 31, 36),
    (170, 26, 28),
    (36, 62, 140),
    (70, 110, 170),
    (40, 84, 60),
    (196, 160, 60),
    (150, 120, 95),
    (205, 96, 40),
)


@dataclass(frozen=True, eq=False)
class Actor:
    """One object to be labelled.

    Attributes:
        kind: KITTI's class.
        pose: Where it stands.
        size_m: Height, width, length in metres.
        style: Body style of a vehicle, else empty.
        paint: Colours of a vehicle's roles in [0, 255].
        limbs: Limbs of a person.
    """

    kind: str
    pose: Pose
    size_m: tuple[float, float, float]
    style: str = ""
    paint: NDArray[np.float64] | None = None
    limbs: tuple[Limb, ...] = ()


@dataclass(frozen=True)
class Prop:
    """One piece of scenery: ``building wall tree bush pole bin``."""

    kind: str
    pose: Pose
    size_m: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame before it is painted."""

    camera: Camera
    light: Light
    road: Road
    actors: tuple[Actor, ...]
    props: tuple[Prop, ...]


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene."""
    camera = Camera(
        focal_px=721.5377,
        cx_px=609.5593 + float(rng.uniform(-8, 8)),
        cy_px=172.854 + float(rng.uniform(-9, 9)),
        height_m=float(rng.uniform(1.55, 1.75)),
        hw=IMAGE_HW,
    )
    light, road = sample_light(rng), sample_road(rng)
    props = tuple(_props(road, rng))
    actors: tuple[Actor, ...] = ()
    if rng.random() >= EMPTY_SHARE:
        actors = tuple(_actors(road, rng))
    return Scene(camera, light, road, actors, props)


class _Ground:
    """Keeps footprints apart."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float, float, float]] = []

    def claim(self, pose: Pose, width: float, length: float) -> bool:
        """Take the place of a footprint in metres if it is free."""
        c, s = abs(math.cos(pose.rotation_y)), abs(math.sin(pose.rotation_y))
        half_x, half_z = (c * length + s * width) / 2 + 0.15, (s * length + c * width) / 2 + 0.25
        for x, z, other_x, other_z in self.taken:
            if abs(pose.x - x) < half_x + other_x and abs(pose.z - z) < half_z + other_z:
                return False
        self.taken.append((pose.x, pose.z, half_x, half_z))
        return pose.z - half_z > 1.3


def _actors(road: Road, rng: np.random.Generator) -> Iterator[Actor]:
    ground = _Ground()
    ground.taken.append((0.0, 0.0, 1.0, 4.5))
    vehicles = int(rng.choice(7, p=[0.08, 0.2, 0.24, 0.2, 0.14, 0.09, 0.05]))
    walkers = int(rng.choice(5, p=[0.38, 0.28, 0.18, 0.1, 0.06]))
    riders = int(rng.choice(3, p=[0.5, 0.37, 0.13]))
    far = int(rng.choice(4, p=[0.45, 0.3, 0.15, 0.1]))
    plan = ["vehicle"] * vehicles + ["walker"] * walkers + ["rider"] * riders + ["far"] * far
    makers = {"vehicle": _vehicle, "walker": _walker, "rider": _rider, "far": _far_vehicle}
    for name in plan:
        for _ in range(12):
            actor = makers[name](road, rng)
            inside = abs(actor.pose.x) < 0.9 * actor.pose.z + 0.35 * actor.size_m[2]
            if inside and ground.claim(actor.pose, actor.size_m[1], actor.size_m[2]):
                yield actor
                break


def _vehicle(road: Road, rng: np.random.Generator) -> Actor:
    z = float(5.0 + 41 * rng.beta(1.1, 1.7))
    style, size, paint = _body(rng)
    lane = road.half_m - road.parking_m
    places = ["ahead", "oncoming", "parked", "parked"] + (
        ["crossing"] * 2 if road.crossing_z else []
    )
    place = str(rng.choice(places))
    if place == "crossing":
        z = road.crossing_z + CROSS_ROAD_M * float(rng.choice([0.28, 0.72]))
        turn = float(rng.choice([0.0, math.pi])) + float(rng.normal(0, 0.12))
        return _driving(
            style, size, paint, Pose(float(rng.uniform(-0.8, 0.8)) * z, z, wrapped(turn))
        )
    if place == "parked":
        side = float(rng.choice([-1, 1]))
        lateral = side * (road.half_m - 1.05 if road.parking_m else road.half_m + 0.1)
        heading = AWAY if rng.random() < 0.75 else -AWAY
        lateral, spread = lateral + float(rng.normal(0, 0.15)), 0.05
    else:
        lateral = (lane / 2) * (1 if place == "ahead" else -1) + float(rng.normal(0, 0.3))
        heading, spread = (AWAY if place == "ahead" else -AWAY), 0.09
    if rng.random() < 0.1:
        spread = 0.7
    turn = wrapped(heading + road.heading(z) + float(rng.normal(0, spread)))
    return _driving(style, size, paint, Pose(road.x_at(lateral, z), z, turn))


def _far_vehicle(road: Road, rng: np.random.Generator) -> Actor:
    z = float(rng.uniform(62, 110))
    style, size, paint = _body(rng)
    lateral = float(rng.choice([-0.5, 0.5, -0.85, 0.85])) * road.half_m
    turn = wrapped(float(rng.choice([AWAY, -AWAY])) + road.heading(z))
    return _driving(style, size, paint, Pose(road.x_at(lateral, z), z, turn))


def _driving(
    style: str, size: tuple[float, float, float], paint: NDArray[np.float64], pose: Pose
) -> Actor:
    return Actor(STYLES[style].kind, pose, size, style, paint)


def _body(
    rng: np.random.Generator,
) -> tuple[str, tuple[float, float, float], NDArray[np.float64]]:
    """Draw a vehicle's style, size and colours in the order of ``bodies.ROLES``."""
    style = str(rng.choice(_VAN_STYLES if rng.random() < 0.14 else _CAR_STYLES))
    h, w, length = STYLES[style].size_m
    size = (
        h * float(rng.uniform(0.94, 1.07)),
        w * float(rng.uniform(0.95, 1.05)),
        length * float(rng.uniform(0.93, 1.07)),
    )
    body = np.clip(np.array(_PAINTS[rng.integers(len(_PAINTS))]) + rng.uniform(-16, 16, 3), 8, 245)
    glass = np.array([34.0, 40, 48]) + rng.uniform(-12, 26)
    glint = glass + rng.uniform(8, 55) * np.array([0.9, 1.0, 1.1])
    rim = np.full(3, rng.uniform(90, 200))
    plastic = np.array([40.0, 41, 44]) if rng.random() < 0.6 else body * 0.6
    lamp = np.full(3, rng.uniform(200, 250))
    tail = np.array([rng.uniform(150, 220), 26, 28])
    plate = np.array([235.0, 232, 220])
    tyre = np.full(3, 22.0)
    glow = np.clip(body * 1.08 + 14, 0, 255)
    roles = [body, body * 0.82, glow, glass, glint, tyre, rim, plastic, lamp, tail, plate]
    return style, size, np.stack(roles)


def _walker(road: Road, rng: np.random.Generator) -> Actor:
    z = float(4.5 + 30 * rng.beta(1.2, 1.9))
    limbs = pedestrian_limbs(float(rng.normal(1.72, 0.09)), rng)
    if rng.random() < 0.22:
        lateral, turn = float(rng.uniform(-0.9, 0.9)) * road.half_m, float(rng.choice([0, math.pi]))
    else:
        kerb = road.half_m + 0.4
        lateral = float(rng.choice([-1, 1])) * (kerb + float(rng.uniform(0, road.walk_m)))
        turn = float(rng.choice([AWAY, -AWAY]))
    turn += float(rng.normal(0, 0.45))
    return _person("Pedestrian", Pose(road.x_at(lateral, z), z, wrapped(turn)), limbs)


def _rider(road: Road, rng: np.random.Generator) -> Actor:
    z = float(5.0 + 30 * rng.beta(1.2, 1.9))
    limbs = cyclist_limbs(float(rng.normal(1.72, 0.07)), rng)
    if rng.random() < 0.28:
        lateral, turn = float(rng.uniform(-1, 1)) * road.half_m, float(rng.choice([0, math.pi]))
    else:
        side = float(rng.choice([-1, 1]))
        lateral = side * (road.half_m - road.parking_m - float(rng.uniform(-0.4, 0.8)))
        turn = float(rng.choice([AWAY, -AWAY], p=[0.65, 0.35] if side > 0 else [0.35, 0.65]))
    turn += road.heading(z) + float(rng.normal(0, 0.3))
    return _person("Cyclist", Pose(road.x_at(lateral, z), z, wrapped(turn)), limbs)


def _person(kind: str, pose: Pose, limbs: list[Limb]) -> Actor:
    """Measure a person: the label's size is that of its limbs."""
    centres = np.array([c for limb in limbs for c in limb.centres])
    radii = np.array([r for limb in limbs for r in limb.radii_m])[:, None]
    high, low = (centres + radii).max(0), (centres - radii).min(0)
    size = (float(high[1]), float(high[2] - low[2]), float(high[0] - low[0]))
    return Actor(kind, pose, size, limbs=tuple(limbs))


def _props(road: Road, rng: np.random.Generator) -> Iterator[Prop]:
    for side in (-1.0, 1.0):
        edge = road.half_m + 0.2 + road.walk_m
        yield from _row_of_blocks(road, side, edge, rng)
        for _ in range(int(rng.integers(0, 5))):
            z = float(rng.uniform(7, 60))
            lateral = side * (road.half_m + float(rng.uniform(0.5, 1.0)))
            kind = str(rng.choice(["pole", "pole", "tree", "bin"]))
            if not _in_crossing(road, z):
                yield Prop(kind, Pose(road.x_at(lateral, z), z, 0.0))


def _row_of_blocks(
    road: Road, side: float, edge: float, rng: np.random.Generator
) -> Iterator[Prop]:
    """Fill one side of the road from near to far with houses, walls or greenery."""
    built, z = rng.random() < 0.62, float(rng.uniform(3, 10))
    setback = float(rng.uniform(0.3, 6))
    while z < 95:
        length = float(rng.uniform(7, 18))
        middle = z + length / 2
        clear = not (
            road.crossing_z
            and z < road.crossing_z + CROSS_ROAD_M + 2
            and z + length > road.crossing_z - 2
        )
        if clear and built and rng.random() < 0.8:
            depth = float(rng.uniform(6, 10))
            lateral = side * (edge + setback + depth / 2)
            pose = Pose(road.x_at(lateral, middle), middle, wrapped(AWAY + road.heading(middle)))
            yield Prop("building", pose, (float(rng.uniform(4.5, 11)), depth, length * 0.94))
        if clear and rng.random() < 0.35:
            pose = Pose(
                road.x_at(side * (edge + 0.2), middle), middle, wrapped(AWAY + road.heading(middle))
            )
            yield Prop("wall", pose, (float(rng.uniform(0.8, 1.7)), 0.25, length))
        for _ in range(int(rng.integers(0, 2 if built else 4))):
            at = float(rng.uniform(z, z + length))
            lateral = side * (edge + float(rng.uniform(0.4, 2 if built else 9)))
            kind = "tree" if rng.random() < 0.55 else "bush"
            if at > 8 and not _in_crossing(road, at):
                yield Prop(kind, Pose(road.x_at(lateral, at), at, 0.0))
        z += length * float(rng.uniform(1.0, 1.5))


def _in_crossing(road: Road, z: float) -> bool:
    return (
        bool(road.crossing_z) and road.crossing_z - 1.5 < z < road.crossing_z + CROSS_ROAD_M + 1.5
    )
