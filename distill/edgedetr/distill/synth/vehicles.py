"""Pose a vehicle's template in front of the camera and shade it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedetr.distill.synth.bodies import template
from edgedetr.distill.synth.paint import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.distill.synth.camera import Camera, Pose
    from edgedetr.distill.synth.light import Light

DETAIL_PX = 34
"""Objects lower than this are painted without their small details."""


def vehicle_parts(
    style: str,
    size_m: Sequence[float],
    pose: Pose,
    paint: NDArray[np.float64],
    camera: Camera,
    light: Light,
) -> list[Part]:
    """Pose a vehicle and shade the polygons that face the camera, in painting order.

    Args:
        style: A key of ``STYLES``.
        size_m: Height, width, length in metres.
        pose: Where it stands.
        paint: Colours (len(ROLES), 3) in [0, 255] before light.
        camera: The camera.
        light: The light.
    """
    shape = template(style)
    height, width, length = size_m
    points = pose.to_camera(shape.corners * (length, height, width), camera)
    middle = pose.to_camera(np.array([0.0, 0.45 * height, 0.0]), camera)
    first = points[shape.starts[:-1]]
    second, third = points[shape.starts[:-1] + 1], points[shape.starts[:-1] + 2]
    normals = np.cross(second - first, third - first)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    normals = normals[shape.faces]
    anchors = first[shape.faces]
    normals *= np.sign(((anchors - middle) * normals).sum(1, keepdims=True))
    faces_camera = (anchors * normals).sum(1) < 0
    if height * camera.focal_px / pose.z < DETAIL_PX:
        faces_camera &= ~shape.is_detail
    colours = light.shaded(paint[shape.roles], normals, pose.z)
    pixels = camera.project(points)
    return [
        Part(pixels[shape.starts[k] : shape.starts[k + 1]], tuple(colours[k].tolist()))
        for k in np.flatnonzero(faces_camera).tolist()
    ]
