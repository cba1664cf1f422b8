"""What makes a network faster or smaller changes nothing of what it learns."""

import pytest
import torch

from edgedetr.distill.networks.backbones import backbone_of
from edgedetr.distill.step_config import StepConfig
from edgedetr.distill.training.speed import set_up, stages_of


def gradient_of(network, model, images, targets):
    network.train()
    losses, _ = model.training_pass(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    return {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["d_fine", "retinanet"])
def test_stages_that_are_computed_again_give_the_same_gradient_and_statistics(
    make_model, images, targets, family
):
    found = []
    for checkpointing in (False, True):
        model = make_model(family)
        set_up(model.network, None, StepConfig(checkpointing=checkpointing))
        torch.manual_seed(0)
        gradient = gradient_of(model.network, model, images, targets)
        found.append((gradient, dict(model.network.named_buffers())))
    for plain, again in zip(*found, strict=True):
        assert plain.keys() == again.keys()
        for name, value in plain.items():
            torch.testing.assert_close(again[name], value, msg=name)


def test_every_stage_of_a_backbone_is_found(make_model):
    for family, count in (("d_fine", 4), ("retinanet", 4)):
        assert len(stages_of(backbone_of(make_model(family).network))) == count


def test_convolutions_lie_with_their_channels_last(make_model):
    student, teacher = make_model().network, make_model(seed=4).network
    set_up(student, teacher, StepConfig(channels_last=True))
    for network in (student, teacher):
        weights = [p for p in network.parameters() if p.ndim == 4 and p.shape[1] > 1]
        assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


def test_without_a_compiler_one_line_says_so_and_nothing_is_compiled(
    make_model, monkeypatch, capsys
):
    def none(_):
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(torch, "compile", none)
    network = make_model().network
    set_up(network, None, StepConfig(compile=True))
    assert capsys.readouterr().err == (
        "train.compile: torch.compile does not work here (no C++ compiler); nothing is compiled\n"
    )
    assert backbone_of(network)._compiled_call_impl is None


def test_backbones_alone_are_compiled(make_model, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    student, teacher = make_model().network, make_model(seed=4).network
    names = list(student.state_dict())
    set_up(student, teacher, StepConfig(compile=True))
    for network in (student, teacher):
        assert backbone_of(network)._compiled_call_impl is not None
        assert network._compiled_call_impl is None
    assert list(student.state_dict()) == names
