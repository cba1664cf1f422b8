import math

import numpy as np
import pytest

from edgedetr.distill.synth.bodies import ROLES, STYLES
from edgedetr.distill.synth.camera import Camera, Pose
from edgedetr.distill.synth.light import sample_light
from edgedetr.distill.synth.vehicles import vehicle_parts

CAMERA = Camera(focal_px=700, cx_px=600, cy_px=170, height_m=1.6, hw=(375, 1242))
PAINT = np.full((len(ROLES), 3), 150.0)
LIGHT = sample_light(np.random.default_rng(0))


def parts(style, z):
    pose = Pose(x=0.0, z=z, rotation_y=-math.pi / 2)
    return vehicle_parts(style, (1.5, 1.7, 4.2), pose, PAINT, CAMERA, LIGHT)


@pytest.mark.parametrize("style", STYLES)
def test_a_vehicle_has_its_size_in_the_picture(style):
    points = np.concatenate([part.points for part in parts(style, 20.0)])
    x0, y0 = points.min(axis=0)
    x1, y1 = points.max(axis=0)
    back_m = 20.0 - 4.2 / 2  # what is nearest to the camera
    assert x1 - x0 == pytest.approx(700 * 1.7 / back_m, rel=0.12)
    assert y1 - y0 <= 700 * 1.5 / back_m * 1.05
    assert (x0 + x1) / 2 == pytest.approx(600, abs=3)


def test_a_far_vehicle_is_painted_without_small_details():
    style = next(iter(STYLES))
    assert len(parts(style, 100.0)) < len(parts(style, 10.0))


def test_colours_are_those_of_pixels():
    for part in parts(next(iter(STYLES)), 15.0):
        assert all(0 <= value <= 255 for value in part.colour)
