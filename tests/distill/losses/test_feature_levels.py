import pytest
import torch

from edgedetr.distill.losses.feature_levels import PairedLevels
from edgedetr.runtime.errors import SettingsError


def test_levels_pair_up_by_their_grid(make_model):
    """Both have strides 8, 16 and 32."""
    student = make_model()
    levels = PairedLevels(student, make_model(preset="edge-small"))
    assert levels.pairs == ((0, 0), (1, 1), (2, 2))
    assert student.network.training is False


class Levels:
    """Stands for a model's memory of some strides."""

    def __init__(self, strides, hw):
        self.levels = tuple(torch.zeros(1, 4, hw[0] // s, hw[1] // s) for s in strides)


@pytest.fixture
def make_strided(make_model):
    """Makes a model whose encoder has other strides."""

    def make(*strides):
        model = make_model()

        class Strided(type(model)):  # type: ignore[misc]
            def encode(self, images):
                return Levels(strides, images.shape[2:])

        return Strided(model.family, model.preset, model.spec, model.network)

    return make


def test_levels_that_only_one_has_are_left_out(make_strided):
    assert PairedLevels(make_strided(8, 16, 32), make_strided(4, 8, 16)).pairs == ((0, 1), (1, 2))
    assert PairedLevels(make_strided(16), make_strided(8, 16, 32)).pairs == ((0, 1),)


def test_models_without_a_common_level_are_refused(make_strided):
    with pytest.raises(SettingsError, match=r"levels of 4x6 cells, its teacher .* of 8x12, none"):
        PairedLevels(make_strided(16), make_strided(8))
