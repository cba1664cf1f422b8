"""What stands beside the road: which sides of it are seen, and where it meets the ground."""

import math

import numpy as np
import pytest

from edgedetr.distill.synth.camera import Camera, Pose
from edgedetr.distill.synth.light import Light
from edgedetr.distill.synth.paint import Canvas
from edgedetr.distill.synth.scenery import (
    Block,
    building_parts,
    paint_tree,
    pole_parts,
    wall_parts,
)

CAMERA = Camera(focal_px=90, cx_px=100, cy_px=40, height_m=1.5, hw=(80, 200))
LIGHT = Light(
    to_sun=np.array([0.0, -1.0, 0.0]),
    sun=np.full(3, 0.6),
    ambient=np.full(3, 0.4),
    haze=np.full(3, 100.0),
    haze_m=1e9,
    zenith=np.full(3, 200.0),
    clouds=0.0,
)
WHOLE = [(np.array([[0.0, 0, 1, 1]]), np.full(3, 100.0))]
AHEAD = Pose(x=0, z=10, rotation_y=0)


def test_a_block_straight_ahead_shows_its_near_side_in_the_shade():
    """It is 4 m long across the view and 2 m wide: its near side is 9 m away, 10 pixels a metre."""
    (part,) = Block(AHEAD, (2, 2, 4), CAMERA, LIGHT).parts(WHOLE)
    left, right, ground, top = 80, 120, 40 + 15, 40 - 5
    corners = {(x, y) for x in (left, right) for y in (ground, top)}
    assert {tuple(point) for point in np.round(part.points[0], 6).tolist()} == corners
    assert part.colour == pytest.approx((40, 40, 40))


@pytest.mark.parametrize(
    ("pose", "sides"),
    [
        (Pose(8, 10, 0), 2),
        (Pose(-8, 10, 0), 2),
        (Pose(0, 10, math.pi / 4), 2),
        (Pose(0, 1.2, 0), 0),
        (Pose(0, -10, 0), 0),
    ],
)
def test_sides_that_face_away_or_are_too_near_are_left_out(pose, sides):
    assert len(Block(pose, (2, 2, 4), CAMERA, LIGHT).parts(WHOLE)) == sides


def test_a_house_has_a_window_for_each_floor_and_column():
    """6.2 m are two floors, 8.4 m three columns; a side has five layers."""
    parts = building_parts(AHEAD, (6.2, 4, 8.4), CAMERA, LIGHT, np.random.default_rng(0))
    assert [len(part.points) for part in parts] == [1, 1, 6, 6, 1]
    frames, panes = parts[2].points, parts[3].points
    assert (frames.min(1) <= panes.min(1)).all()
    assert (frames.max(1) >= panes.max(1)).all()


def test_a_wall_of_six_metres_has_four_posts():
    parts = wall_parts(AHEAD, (1, 0.2, 6), CAMERA, LIGHT, np.random.default_rng(0))
    assert [len(part.points) for part in parts] == [1, 4, 1]


def test_poles_stand_on_the_ground_and_signs_hang_above_it():
    """9 pixels a metre: the ground 10 m away is 13.5 pixels below the horizon."""
    for seed in range(10):
        post, *others = pole_parts(AHEAD, CAMERA, LIGHT, np.random.default_rng(seed))
        assert post.points[:, 1].max() == pytest.approx(40 + 13.5)
        height_m = np.ptp(post.points[:, 1]) / 9
        assert 2.2 <= height_m <= 8
        assert all(part.points[:, 1].max() < 40 + 13.5 - 9 for part in others)


@pytest.mark.parametrize("bush", [False, True])
def test_a_tree_stands_over_its_foot_and_hides_no_number(bush):
    canvases = [Canvas(np.full((80, 200, 3), 200, np.uint8)) for _ in range(2)]
    for canvas in canvases:
        paint_tree(canvas, AHEAD, CAMERA, LIGHT, np.random.default_rng(3), bush=bush)
    rows, columns = np.nonzero((canvases[0].image != 200).any(2))
    assert columns.mean() == pytest.approx(100, abs=4)
    assert rows.max() <= 40 + 13.5 + 1
    assert np.array_equal(canvases[0].image, canvases[1].image)
    assert not canvases[0].ids.any()
