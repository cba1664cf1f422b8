import torch

from edgedetr.distill.config import MethodConfig
from edgedetr.distill.methods import clock, none
from edgedetr.distill.training.distillation_model import trainee_of

NONE = MethodConfig("none", 1.0, 0.0, none.Settings())
CLOCK = MethodConfig("clock", 1.0, 0.0, clock.Settings())


def test_the_teacher_is_no_part_of_what_trains(make_model):
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    trainee = trainee_of([CLOCK], student, teacher)
    assert trainee.teacher_memory is not None
    theirs = {id(p) for p in teacher.network.parameters()}
    assert not any(id(p) in theirs for p in trainee.parameters())


def test_a_teacher_that_no_method_needs_encodes_nothing(make_model):
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    assert trainee_of([NONE], student, teacher).teacher_memory is None
    assert trainee_of([NONE], student, None).teacher_memory is None


def test_a_pass_gives_the_terms_of_detection_and_of_distillation(make_model, images, targets):
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    trainee = trainee_of([CLOCK], student, teacher).train()
    detection, distillation = trainee(images, targets)
    assert {f"clock_{term}" for term in clock.Clock.terms} == set(distillation)
    assert all(torch.isfinite(term) for term in (*detection.values(), *distillation.values()))
    assert any(term.requires_grad for term in distillation.values())
