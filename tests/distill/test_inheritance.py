import pytest
import torch

from edgedetr.distill.inheritance import inherit
from edgedetr.runtime.errors import UsageError


def test_a_student_of_the_same_shape_becomes_its_teacher(make_model, images):
    student, teacher = make_model(seed=0), make_model(seed=1)
    inherit(student, teacher)
    for mine, theirs in zip(
        student.module.predict(student.network, images),
        teacher.module.predict(teacher.network, images),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_only_what_fits_is_taken(make_model):
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    before = {k: v.clone() for k, v in student.network.state_dict().items()}
    copied = set(inherit(student, teacher))
    theirs = teacher.network.state_dict()
    assert copied
    for name, tensor in student.network.state_dict().items():
        assert torch.equal(tensor, theirs[name] if name in copied else before[name]), name


def test_a_part_that_is_nowhere_is_refused(make_model):
    with pytest.raises(UsageError, match=r"can inherit nothing .* of 'nowhere'"):
        inherit(make_model(), make_model(seed=1), "nowhere")
