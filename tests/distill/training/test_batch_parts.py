"""Passes one after another give the gradient of the whole batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from edgedetr.distill.config import MethodConfig
from edgedetr.distill.methods import method
from edgedetr.distill.networks.whole_batch import part_of
from edgedetr.distill.training.batch_parts import PassSums, parts_of, pass_rows
from edgedetr.distill.training.distillation_model import trainee_of
from edgedetr.runtime.settings import settings_from_dict

PAIRS = [
    ("d_fine", "d_fine", "clock", {"box_noise": 0.4, "groups": 2}),
    ("rt_detr_v2", "dab_detr", "kd_detr", {}),
    ("deimv2", "retinanet", "fgd", {}),
    ("dino", None, "none", {}),
    ("deformable_detr", "dino", "kd_detr", {"general_boxes": "gaussian"}),
    ("fcos", "dab_detr", "kd_detr", {}),
    ("retinanet", "fcos", "fgd", {}),
]


@pytest.fixture
def four(make_targets, images):
    """Four images: two objects, none, one beside an ignored area, one."""
    targets = [
        make_targets((0.3, 0.4, 0.2, 0.3), (0.7, 0.5, 0.3, 0.4)),
        make_targets(),
        make_targets((0.5, 0.6, 0.4, 0.3), ignored=[(0.2, 0.2, 0.3, 0.3)]),
        make_targets((0.4, 0.4, 0.5, 0.5)),
    ]
    return torch.cat([images, images.flip(-1) * 0.7]), targets


def _trainee(make_model, student, teacher, name, settings):
    network = make_model(student)
    kind = settings_from_dict(method(name).Settings, settings, name)
    taught = make_model(teacher, seed=4) if teacher else None
    trainee = trainee_of([MethodConfig(name, 1.0, 0.0, kind)], network, taught).train()
    for module in trainee.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # it would see the images of a pass alone
    return trainee


def _gradient(trainee):
    return {n: p.grad.clone() for n, p in trainee.named_parameters() if p.grad is not None}


def _backward(trainee, images, targets):
    torch.manual_seed(3)
    detection, distillation = trainee(images, targets)
    terms = {**{str(k): v for k, v in detection.items()}, **distillation}
    sum(terms.values()).backward()
    return {name: float(value.detach()) for name, value in terms.items()}


@pytest.mark.parametrize(("student", "teacher", "name", "settings"), PAIRS)
def test_passes_add_up_to_the_losses_and_the_gradient_of_one(
    make_model, four, student, teacher, name, settings
):
    images, targets = four
    trainee = _trainee(make_model, student, teacher, name, settings)
    whole = _backward(trainee, images, targets)
    wanted = _gradient(trainee)
    trainee.zero_grad()
    sums = PassSums(None)
    passes = parts_of([targets], 0, 2, sums)
    with torch.no_grad():
        for rows, part in passes:
            sums.begin()
            torch.manual_seed(3)
            with part_of(part):
                trainee(images[rows], [targets[i] for i in rows])
    total = dict.fromkeys(whole, 0.0)
    for rows, part in passes:
        sums.begin_with_sums()
        with part_of(part):
            found = _backward(trainee, images[rows], [targets[i] for i in rows])
        assert found.keys() == whole.keys()
        total = {key: total[key] + found[key] for key in total}

    assert total == {key: pytest.approx(value, rel=1e-5, abs=1e-6) for key, value in whole.items()}
    gradient = _gradient(trainee)
    assert gradient.keys() == wanted.keys()
    size = torch.cat([g.flatten() for g in wanted.values()]).norm()
    off = torch.cat([(gradient[k] - wanted[k]).flatten() for k in wanted]).norm()
    assert off < 1e-5 * size * (100 if student in {"dino", "deformable_detr"} else 1)


def test_passes_take_as_many_labelled_images_each(make_targets):
    one = make_targets((0.5, 0.5, 0.1, 0.1))
    targets = [one, one, one, one, replace(one, labelled=False), replace(one, labelled=False)]

    assert pass_rows(targets, 2) == [[0, 1, 4], [2, 3, 5]]


def test_rows_of_processes_are_those_of_one_process(make_targets):
    one, other = make_targets((0.5, 0.5, 0.1, 0.1)), replace(make_targets(), labelled=False)
    everyone = [[one, other], [one, one, other]]

    rows = [parts_of(everyone, rank, 1, PassSums(None))[0][1].rows for rank in range(2)]

    assert rows == [(0, 3), (1, 2, 4)]


def test_sums_are_noted_first_and_given_then():
    sums = PassSums(None)
    for value in (1, 2):
        sums.begin()
        assert sums.count(value) == value
        assert sums.total(torch.tensor(3.0 * value)) == 3.0 * value
    assert sums.is_asked

    for value in (1, 2):
        sums.begin_with_sums()
        assert sums.count(value) == 3
        assert sums.total(torch.tensor(3.0 * value)) == 9.0
