import pytest
import torch

from edgedetr.distill.config import MethodConfig
from edgedetr.distill.methods import clock
from edgedetr.distill.training.objective import distillation_of
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch
from edgedetr.runtime.errors import UsageError


def clock_config(weight=1.0, share=0.0):
    return MethodConfig("clock", weight, share, clock.Settings())


@pytest.fixture
def pair(make_model):
    return make_model(), make_model(preset="edge-small", seed=1)


def terms_of(distillation, pair, images, targets):
    student, teacher = pair
    memory = student.encode(images)
    detection = {"loss": memory.tokens.square().mean()}
    return distillation(Batch(images, targets, memory, TeacherMemory(teacher)(images)), detection)


def test_a_methods_weight_scales_all_its_terms(pair, images, targets):
    torch.manual_seed(0)
    one = distillation_of([clock_config()], *pair)
    torch.manual_seed(0)
    three = distillation_of([clock_config(3.0)], *pair)
    found = terms_of(one, pair, images, targets)
    assert set(found) == {f"clock_{name}" for name in clock.Clock.terms}
    for name, value in terms_of(three, pair, images, targets).items():
        assert value.item() == pytest.approx(3 * found[name].item(), rel=1e-5)


def test_a_share_holds_each_term(pair, images, targets):
    distillation = distillation_of([clock_config(share=0.2)], *pair)
    terms_of(distillation, pair, images, targets)
    assert len(distillation.balance.factors) == len(clock.Clock.terms)
    factors = dict(
        zip(distillation.balance.shares, distillation.balance.factors.tolist(), strict=True)
    )
    assert factors.pop("clock_tcld_corners") == 1  # it is off
    assert 1 not in factors.values()


def test_a_pair_that_a_method_does_not_take_is_refused_with_those_it_takes(pair, monkeypatch):
    monkeypatch.setattr(clock, "supports", lambda student, _: "v2" in student.__name__)
    with pytest.raises(
        UsageError, match=r"does not support a d_fine student .* it supports .*rt_detr_v2.* with "
    ):
        distillation_of([clock_config()], *pair)
