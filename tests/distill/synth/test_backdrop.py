"""Sky and ground, pixel by pixel: where the road lies, and what haze leaves of it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from edgedetr.distill.synth.backdrop import TEXTURE_PX, Road, backdrop, sample_road, texture
from edgedetr.distill.synth.camera import Camera
from edgedetr.distill.synth.light import Light

CAMERA = Camera(focal_px=100, cx_px=100, cy_px=20, height_m=1.5, hw=(60, 200))
LIGHT = Light(
    to_sun=np.array([0.0, -1.0, 0.0]),
    sun=np.zeros(3),
    ambient=np.ones(3),
    haze=np.array([90.0, 100, 110]),
    haze_m=1e9,
    zenith=np.array([60.0, 120, 215]),
    clouds=0.0,
)
ROAD = Road(
    axis_x=-2.0,
    bend=0.0,
    half_m=4.0,
    walk_m=2.0,
    parking_m=0.0,
    crossing_z=0.0,
    zebra_z=0.0,
    lines=False,
)


def painted(road=ROAD, light=LIGHT, seed=0):
    return backdrop(CAMERA, road, light, np.random.default_rng(seed))


def test_a_bent_road_leaves_its_axis_with_the_square_of_the_distance():
    bent = replace(ROAD, bend=0.002)
    assert bent.x_at(1, 20) == pytest.approx(-2 + 1 + 0.4)
    assert bent.heading(20) == pytest.approx(math.atan(0.04))
    assert (ROAD.x_at(1, 20), ROAD.heading(20)) == (-1, 0)


def test_the_camera_drives_in_the_right_lane_of_every_road():
    for seed in range(20):
        road = sample_road(np.random.default_rng(seed))
        assert 0 < -road.axis_x < road.half_m - road.parking_m


def test_the_pavement_lies_where_its_distance_projects_it():
    """At 10 m a metre is 10 pixels wide: the pavement begins 4.18 m beside the axis, at x = -2."""
    row, axis = 20 + 15, 100 - 20
    for seed in range(5):
        grey = painted(seed=seed)[row].mean(1)
        road, walk = grey[axis - 38 : axis + 38], grey[axis + 43 : axis + 60]
        assert walk.mean() > road.mean() + 15


def test_a_zebra_crossing_has_stripes_of_half_a_metre():
    """It reaches from 9 m to 12.2 m; at 10 m a stripe is 5 pixels wide, as is each gap."""
    plain, striped = painted(), painted(replace(ROAD, zebra_z=9.0))
    changed = (plain != striped).any(2)
    rows = np.flatnonzero(changed.any(1))
    assert (rows.min(), rows.max()) == (20 + 12, 20 + 16)
    runs = np.flatnonzero(np.diff(changed[20 + 15, 45:115].astype(int)))
    assert set(np.diff(runs).tolist()) <= {4, 5, 6}
    assert len(runs) > 10


def test_a_clear_sky_reaches_its_zenith_at_the_top():
    assert painted()[0].reshape(-1, 3).tolist() == [[60, 120, 215]] * 200


def test_fog_leaves_nothing_but_its_colour():
    fog = replace(LIGHT, haze_m=1e-3, zenith=LIGHT.haze)
    assert np.unique(painted(light=fog).reshape(-1, 3), axis=0).tolist() == [[90, 100, 110]]


def test_the_texture_repeats_without_a_seam():
    tile = texture()
    assert (tile.shape, tile.min(), tile.max()) == ((TEXTURE_PX, TEXTURE_PX), 0, 1)
    for inner, seam in (
        (np.abs(np.diff(tile, axis=0)).mean(), np.abs(tile[-1] - tile[0]).mean()),
        (np.abs(np.diff(tile, axis=1)).mean(), np.abs(tile[:, -1] - tile[:, 0]).mean()),
    ):
        assert seam == pytest.approx(inner, rel=0.2)
