import numpy as np
import pytest

from edgedetr.distill.synth.bodies import ROLES, STYLES, template


@pytest.mark.parametrize("name", STYLES)
def test_a_template_fills_the_unit_box_of_its_style(name):
    corners = template(name).corners
    low, high = corners.min(axis=0), corners.max(axis=0)
    assert low[:2] == pytest.approx([-0.5, 0], abs=0.03)
    assert high[:2] == pytest.approx([0.5, 1], abs=0.03)
    assert low[2] == -high[2]
    assert 0.5 <= high[2] < 0.6  # the mirrors stick out


@pytest.mark.parametrize("name", STYLES)
def test_every_polygon_has_a_role_and_a_face_before_it(name):
    shape = template(name)
    count = len(shape.roles)
    assert shape.starts[-1] == len(shape.corners)
    assert (np.diff(shape.starts) >= 3).all()
    assert (shape.roles < len(ROLES)).all()
    assert (shape.faces <= np.arange(count)).all()
    assert len(shape.is_detail) == count
    assert shape.is_detail.any()
    assert not shape.is_detail.all()


def test_a_template_is_built_once():
    name = next(iter(STYLES))
    assert template(name) is template(name)
