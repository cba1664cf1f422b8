from dataclasses import replace

import torch

from edgedetr.distill.config import MethodConfig
from edgedetr.distill.data import open_dataset
from edgedetr.distill.methods import clock, none
from edgedetr.distill.training.distillation_model import trainee_of
from edgedetr.distill.training.network_inputs import NetworkInputs

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


def test_pixels_are_normalised_on_their_device_as_loading_does(make_model, kitti):
    """Every one of 256 values, to the bit; so a memory that knows the images knows these."""
    student = make_model()
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    student = replace(student, spec=replace(student.spec, mean=mean, std=std))
    trainee = trainee_of([NONE], student, None)
    inputs = NetworkInputs(open_dataset("kitti", str(kitti), "train", ("Car",)), student.spec)
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(3, 16, 16)
    assert torch.equal(trainee._normalised(pixels[None])[0], inputs.normalised(pixels))
    assert trainee._normalised(inputs.normalised(pixels)[None]).dtype == torch.float32
    staying = NetworkInputs(inputs.dataset, student.spec, stay_pixels=True)
    image, _ = staying.finished(pixels, staying[0].targets)
    assert torch.equal(image, pixels)
