"""Scene to image and exact labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedetr.distill.synth.backdrop import backdrop
from edgedetr.distill.synth.camera import NEAREST_M, Camera, Pose
from edgedetr.distill.synth.light import Light, photograph
from edgedetr.distill.synth.paint import SHIFT, Canvas, Part, Silhouette, fixed_point
from edgedetr.distill.synth.people import limb_parts
from edgedetr.distill.synth.scene import Actor, Prop, Scene
from edgedetr.distill.synth.scenery import (
    bin_parts,
    building_parts,
    paint_tree,
    pole_parts,
    wall_parts,
)
from edgedetr.distill.synth.vehicles import vehicle_parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_HEIGHT_PX = 18
"""Objects lower than this become DontCare areas."""
MIN_VISIBLE = 0.2
"""Objects of which less is seen become DontCare areas."""
MAX_TRUNCATION = 0.85
"""Objects of which more lies outside the image become DontCare areas."""
_BEHIND = {"building", "wall"}


@dataclass(frozen=True, eq=False)
class Seen:
    """One object as the renderer saw it.

    Attributes:
        actor: The object.
        silhouette: Its pixels inside the image.
        number: Its value in the id buffer.
        visible: Share of these pixels that nothing nearer hides, in [0, 1].
        visible_box: Corners of the pixels that nothing nearer hides.
    """

    actor: Actor
    silhouette: Silhouette
    number: int
    visible: float
    visible_box: tuple[float, float, float, float]

    @property
    def is_labelled(self) -> bool:
        """Whether it is large and visible enough to be an object and not a DontCare area."""
        _, top, _, bottom = self.silhouette.box()
        return (
            bottom - top >= MIN_HEIGHT_PX
            and self.visible >= MIN_VISIBLE
            and self.silhouette.truncation() <= MAX_TRUNCATION
        )

    @property
    def occlusion(self) -> int:
        """KITTI's 0 visible, 1 partly, 2 largely occluded."""
        return 0 if self.visible >= 0.85 else 1 if self.visible >= 0.5 else 2


@dataclass(frozen=True, eq=False)
class Rendered:
    """A painted frame.

    Attributes:
        image: RGB pixels, uint8 (H, W, 3).
        ids: The number of the object that each pixel shows, 0 for scenery; uint8 (H, W).
        seen: The objects that have at least one pixel in the image, hidden or not, far to near.
    """

    image: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    seen: tuple[Seen, ...]


def render(scene: Scene, rng: np.random.Generator) -> Rendered:
    """Paint a scene from far to near.

    Args:
        scene: What to paint; at most 254 actors.
        rng: Source of the textures and of the camera's settings.
    """
    image = backdrop(scene.camera, scene.road, scene.light, rng)
    cast_shadows(image, scene)
    canvas = Canvas(image)
    for prop in sorted((p for p in scene.props if p.kind in _BEHIND), key=_distance):
        _paint_prop(canvas, prop, scene, rng)
    actors = sorted(scene.actors, key=_distance)
    items: list[Actor | Prop] = [*actors, *(p for p in scene.props if p.kind not in _BEHIND)]
    silhouettes: list[Silhouette] = []
    for item in sorted(items, key=_distance):
        if isinstance(item, Prop):
            _paint_prop(canvas, item, scene, rng)
        else:
            silhouettes.append(_paint_actor(canvas, item, len(silhouettes) + 1, scene, rng))
    seen = tuple(
        Seen(actor, silhouette, n, *canvas.shown(silhouette, n))
        for n, (actor, silhouette) in enumerate(zip(actors, silhouettes, strict=True), 1)
        if silhouette.mask.any()
    )
    return Rendered(photograph(canvas.image, rng), canvas.ids, seen)


def cast_shadows(image: NDArray[np.uint8], scene: Scene) -> None:
    """Darken the ground under and behind everything that stands on it, in place."""
    top = max(int(scene.camera.cy_px) + 2, 0)
    contact = np.zeros((image.shape[0] - top, image.shape[1]), np.uint8)
    cast = np.zeros_like(contact)
    for actor in scene.actors:
        height, width, length = actor.size_m
        margin = 1.08 if actor.style else 0.8
        foot = _footprint(actor.pose, width * margin, length * margin)
        _fill(contact, foot, scene.camera, top)
        _fill(cast, _thrown(foot, height, scene.light), scene.camera, top)
    for prop in scene.props:
        if prop.kind in _BEHIND:
            foot = _footprint(prop.pose, prop.size_m[1], prop.size_m[2])
            _fill(cast, _thrown(foot, prop.size_m[0], scene.light), scene.camera, top)
        elif prop.kind == "tree":
            foot = _footprint(prop.pose, 3.0, 3.0)
            moved = foot + 3.0 * _shift(scene.light)
            _fill(cast, moved, scene.camera, top)
    strength = scene.light.shadow * 0.85
    darkness = cv2.addWeighted(cast, strength, contact, 0.55, 0)
    darkness = np.minimum(cv2.blur(darkness, (7, 5)), 190)
    keep = cv2.bitwise_not(darkness)
    cv2.multiply(image[top:], cv2.merge([keep, keep, keep]), image[top:], 1 / 255)


def _paint_actor(
    canvas: Canvas, actor: Actor, number: int, scene: Scene, rng: np.random.Generator
) -> Silhouette:
    if actor.paint is None:
        parts = limb_parts(list(actor.limbs), actor.pose, scene.camera, scene.light)
    else:
        parts = vehicle_parts(
            actor.style, actor.size_m, actor.pose, actor.paint, scene.camera, scene.light
        )
    silhouette = canvas.paint(parts, number)
    canvas.mottle(silhouette, rng)
    return silhouette


def _paint_prop(canvas: Canvas, prop: Prop, scene: Scene, rng: np.random.Generator) -> None:
    camera, light = scene.camera, scene.light
    if prop.kind in {"tree", "bush"}:
        paint_tree(canvas, prop.pose, camera, light, rng, bush=prop.kind == "bush")
        return
    parts: list[Part]
    if prop.kind == "building":
        parts = building_parts(prop.pose, prop.size_m, camera, light, rng)
    elif prop.kind == "wall":
        parts = wall_parts(prop.pose, prop.size_m, camera, light, rng)
    elif prop.kind == "pole":
        parts = pole_parts(prop.pose, camera, light, rng)
    else:
        parts = bin_parts(prop.pose, camera, light, rng)
    if parts:
        canvas.paint(parts)


def _distance(item: Actor | Prop) -> float:
    """Sort key: far before near."""
    return -item.pose.z


def _footprint(pose: Pose, width: float, length: float) -> NDArray[np.float64]:
    """Return the corners (4, 2) of a footprint as (x, z)."""
    c, s = math.cos(pose.rotation_y), math.sin(pose.rotation_y)
    corners = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * (length / 2, width / 2)
    forward, side = corners.T
    return np.stack([pose.x + c * forward + s * side, pose.z - s * forward + c * side], axis=1)


def _shift(light: Light) -> NDArray[np.float64]:
    """Return how far a shadow moves on the ground (x, z) for each metre of height."""
    return -light.to_sun[[0, 2]] / max(-float(light.to_sun[1]), 0.25)


def _thrown(foot: NDArray[np.float64], height: float, light: Light) -> NDArray[np.float64]:
    moved = foot + 0.8 * height * _shift(light)
    both = np.concatenate([foot, moved]).astype(np.float32)
    return cv2.convexHull(both)[:, 0].astype(np.float64)


def _fill(mask: NDArray[np.uint8], ground: NDArray[np.float64], camera: Camera, top: int) -> None:
    depth = np.maximum(ground[:, 1], NEAREST_M)
    points = np.stack([ground[:, 0], np.full(len(ground), camera.height_m), depth], axis=1)
    fixed = fixed_point(camera.project(points) - (0, top))
    cv2.fillPoly(mask, [fixed], (255,), cv2.LINE_AA, SHIFT)
