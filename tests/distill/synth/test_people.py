import numpy as np
import pytest

from edgedetr.distill.synth.camera import Camera, Pose
from edgedetr.distill.synth.light import sample_light
from edgedetr.distill.synth.people import cloth, cyclist_limbs, limb_parts, pedestrian_limbs

CAMERA = Camera(focal_px=700, cx_px=600, cy_px=170, height_m=1.6, hw=(375, 1242))


@pytest.mark.parametrize("height_m", [1.2, 1.75, 1.95])
@pytest.mark.parametrize("draw", [pedestrian_limbs, cyclist_limbs])
def test_a_person_stands_on_the_ground_and_has_the_height_asked_for(draw, height_m):
    for seed in range(10):
        limbs = draw(height_m, np.random.default_rng(seed))
        balls = [
            (c[1], r) for limb in limbs for c, r in zip(limb.centres, limb.radii_m, strict=False)
        ]
        assert max(y + r for y, r in balls) == pytest.approx(height_m, rel=0.06)
        assert abs(min(y - r for y, r in balls)) < 0.05 * height_m


def test_limbs_are_painted_from_far_to_near_at_the_size_of_their_distance():
    limbs = pedestrian_limbs(1.75, np.random.default_rng(0))
    light = sample_light(np.random.default_rng(0))

    def height_px(z):
        parts = limb_parts(limbs, Pose(0.0, z, 0.3), CAMERA, light)
        rows = np.concatenate([part.points[:, 1] for part in parts])
        return rows.max() - rows.min()

    assert height_px(20.0) == pytest.approx(700 * 1.75 / 20, rel=0.08)
    assert height_px(20.0) == pytest.approx(2 * height_px(40.0), rel=0.05)


def test_dark_cloth_is_darker():
    rng = np.random.default_rng(1)
    light = np.mean([cloth(rng) for _ in range(200)])
    assert np.mean([cloth(rng, dark=True) for _ in range(200)]) < 0.8 * light
