import pytest
import torch

from edgedetr.distill.losses.feature_levels import PairedLevels, resampled
from edgedetr.distill.types import Batch


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


def test_levels_of_other_strides_pair_up_with_the_nearest(make_strided):
    assert PairedLevels(make_strided(16), make_strided(8)).pairs == ((0, 0),)
    assert PairedLevels(make_strided(4, 32), make_strided(8, 16)).pairs == ((0, 0), (1, 1))
    assert PairedLevels(make_strided(4), make_strided(8, 16)).pairs == ((0, 0),)


def test_a_cell_is_the_mean_of_those_that_it_covers():
    level = torch.arange(16.0).reshape(1, 1, 4, 4)
    halved = resampled(level, None, (2, 2))
    torch.testing.assert_close(halved[0, 0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    same = resampled(level, None, (4, 4))
    torch.testing.assert_close(same, level)
    upper = torch.tensor([[1.0, 0.5, 0.0, 0.0]])  # the student's input is the teacher's upper half
    torch.testing.assert_close(resampled(level, upper, (2, 4)), level[:, :, :2])
    right = torch.tensor([[0.5, 1.0, 0.5, 0.0]])
    torch.testing.assert_close(resampled(level, right, (4, 2)), level[..., 2:])


def test_a_teacher_of_a_finer_input_is_resampled_to_the_students_grid(make_model, targets):
    """Twice as many cells along each side; the adapter is fitted on the same grid."""
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    levels = PairedLevels(student, teacher)
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        theirs = teacher.encode(torch.rand(2, 3, 128, 192))
    batch = Batch(images, targets, student.encode(images), theirs)
    levels.fit([batch])
    for pair, (s, _) in zip(levels(batch), levels.pairs, strict=True):
        assert pair.teacher.shape == pair.student.shape
        assert pair.teacher.shape[-2:] == batch.memory.levels[s].shape[-2:]
        assert not pair.teacher.requires_grad
