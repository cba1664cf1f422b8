import pytest
import torch

from edgedetr.distill.config import MethodConfig
from edgedetr.distill.methods import none
from edgedetr.distill.networks.backbones import backbone_of
from edgedetr.distill.optimizer_config import OptimizerConfig
from edgedetr.distill.training.distillation_model import trainee_of
from edgedetr.distill.training.optimizer import (
    freeze_stages,
    learning_rate_factor,
    optimizer_of,
    set_learning_rate,
)
from edgedetr.runtime.errors import UsageError


def test_the_learning_rate_rises_and_falls():
    config = OptimizerConfig(warmup_steps=4)
    factors = [learning_rate_factor(s, 12, config) for s in range(12)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[8] == pytest.approx(0.5)
    assert 0 < factors[11] < 0.05


def factors_of(steps, **settings):
    config = OptimizerConfig(warmup_steps=0, **settings)
    return [round(learning_rate_factor(s, steps, config), 6) for s in range(steps)]


def test_steps_lower_the_rate_at_their_shares_of_the_run():
    found = factors_of(10, schedule="step", milestones=(0.5, 0.8), gamma=0.1)
    assert found == [1.0] * 5 + [0.1] * 3 + [0.01] * 2


def test_a_flat_cosine_holds_the_peak_first():
    """Flat for 4 of 8 steps, then half a cosine from 1 to 0.2: at its middle 0.6."""
    found = factors_of(8, schedule="flat_cosine", flat_share=0.5, final_factor=0.2)
    assert found[:5] == [1.0] * 5
    assert found[6] == pytest.approx(0.6)
    assert factors_of(8, final_factor=0.5)[4] == pytest.approx(0.75)


def test_a_warm_up_comes_before_every_schedule():
    for schedule in ("cosine", "step", "flat_cosine"):
        config = OptimizerConfig(warmup_steps=4, schedule=schedule)
        found = [learning_rate_factor(s, 12, config) for s in range(5)]
        assert found == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_the_rate_is_in_proportion_to_the_batch():
    settings = OptimizerConfig(learning_rate=1e-3, base_batch_size=16)
    assert settings.for_batches_of(8).learning_rate == pytest.approx(5e-4)
    assert OptimizerConfig(learning_rate=1e-3).for_batches_of(8).learning_rate == 1e-3


def trainee_with(model):
    return trainee_of([MethodConfig("none", 1.0, 0.0, none.Settings())], model, None)


def test_each_stage_learns_at_a_share_of_the_rate_behind_it(make_model):
    """Four stages: the stem at 0.5 to the fourth of the backbone's rate."""
    trainee = trainee_with(make_model())
    settings = OptimizerConfig(learning_rate=1.0, backbone_factor=0.8, layer_decay=0.5)
    rate = {
        id(p): group["lr"]
        for group in optimizer_of(trainee, settings).param_groups
        for p in group["params"]
    }
    for name, parameter in backbone_of(trainee.network).named_parameters():
        stage = int(name.split(".")[2]) + 1 if name.startswith("encoder.stages") else 0
        assert rate[id(parameter)] == pytest.approx(0.8 * 0.5 ** (4 - stage)), name


def test_frozen_stages_and_their_batch_norms_stay_as_they_are(make_model, images, targets):
    model = make_model()
    freeze_stages(model.network, 1)
    trainee = trainee_with(model).train()
    optimizer = optimizer_of(trainee, OptimizerConfig(learning_rate=1e-2))
    backbone = backbone_of(model.network)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    detection, _ = trainee(images, targets)
    sum(detection.values()).backward()
    optimizer.step()
    changed = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    frozen = {k for k in before if k.startswith(("embedder.", "encoder.stages.0."))}
    assert frozen
    assert not changed & frozen
    assert {k for k in before if "running_mean" in k} - frozen <= changed
    with pytest.raises(UsageError, match="frozen_stages is 9, but the backbone has 4 stages"):
        freeze_stages(model.network, 9)


@pytest.mark.parametrize("family", ["d_fine", "deimv2", "dab_detr", "retinanet"])
def test_the_backbone_learns_at_its_own_rate(family, make_model):
    model = make_model(family)
    settings = OptimizerConfig(learning_rate=1.0, backbone_factor=0.1)
    trainee = trainee_of([MethodConfig("none", 1.0, 0.0, none.Settings())], model, None)
    slow = {
        id(p)
        for group in optimizer_of(trainee, settings).param_groups
        if group["lr"] == pytest.approx(0.1)
        for p in group["params"]
    }
    assert slow == {id(p) for p in backbone_of(model.network).parameters()}


def test_each_group_has_its_share_of_the_peak():
    groups = [{"params": [torch.zeros(1)], "peak": peak, "lr": peak} for peak in (1.0, 0.1)]
    optimizer = torch.optim.AdamW(groups)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.05]
