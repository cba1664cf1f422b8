from __future__ import annotations

import math

import numpy as np
import pytest

from edgedetr.distill.synth.camera import Camera, Pose

CAMERA = Camera(focal_px=700, cx_px=600, cy_px=170, height_m=1.6, hw=(375, 1242))


def test_camera_projects_by_similar_triangles() -> None:
    point = np.array([[2.0, 1.6, 20.0]])
    assert CAMERA.project(point).tolist() == [[670.0, 226.0]]


def test_pose_turns_as_kitti_does() -> None:
    away = Pose(x=1.0, z=10.0, rotation_y=-math.pi / 2)
    ahead = away.to_camera(np.array([[2.0, 0.5, 0.0]]), CAMERA)
    assert ahead[0] == pytest.approx([1.0, 1.1, 12.0])
    assert Pose(10.0, 10.0, 0.0).alpha == pytest.approx(-math.pi / 4)
