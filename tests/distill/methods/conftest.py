"""What tests of several methods share."""

import pytest


@pytest.fixture
def models(make_model):
    """A student and a frozen teacher of another size."""
    teacher = make_model(preset="edge-small", seed=1)
    teacher.network.requires_grad_(requires_grad=False)
    return make_model(), teacher
