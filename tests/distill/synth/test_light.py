import math

import numpy as np
import pytest

from edgedetr.distill.synth.light import Light, photograph, sample_light

LIGHT = Light(
    to_sun=np.array([0.0, -1.0, 0.0]),
    sun=np.full(3, 0.6),
    ambient=np.full(3, 0.4),
    haze=np.full(3, 100.0),
    haze_m=50.0,
    zenith=np.full(3, 200.0),
    clouds=0.0,
)


def test_haze_hides_63_per_cent_at_its_distance():
    near, far = LIGHT.veiled(np.zeros((2, 3)), np.array([0.0, 50.0]))
    assert near.tolist() == [0, 0, 0]
    assert far == pytest.approx(100 * (1 - math.exp(-1)))


def test_a_surface_that_faces_the_sun_keeps_its_colour_and_one_that_does_not_has_the_sky():
    normals = np.array([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]])
    up, down = LIGHT.shaded(np.full((2, 3), 80.0), normals, 0.0)
    assert up == pytest.approx(80)
    assert down == pytest.approx(32)


def test_a_shadow_lacks_the_direct_share_of_the_light():
    assert LIGHT.shadow == pytest.approx(0.6)


def test_drawn_lights_point_up_to_the_sun():
    for seed in range(20):
        light = sample_light(np.random.default_rng(seed))
        assert np.linalg.norm(light.to_sun) == pytest.approx(1)
        assert light.to_sun[1] < 0
        assert 0 < light.shadow < 1


def test_a_photograph_is_that_of_its_seed_and_leaves_the_picture_as_it_was():
    image = np.full((40, 60, 3), 120, np.uint8)
    one, two, other = (photograph(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == image.shape
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    assert (image == 120).all()
