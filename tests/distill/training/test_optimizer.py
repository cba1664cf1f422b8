import pytest
import torch

from edgedetr.distill.config import MethodConfig
from edgedetr.distill.methods import none
from edgedetr.distill.networks.backbones import backbone_of
from edgedetr.distill.optimizer_config import OptimizerConfig
from edgedetr.distill.training.distillation_model import trainee_of
from edgedetr.distill.training.optimizer import (
    learning_rate_factor,
    optimizer_of,
    set_learning_rate,
)


def test_the_learning_rate_rises_and_falls():
    config = OptimizerConfig(warmup_steps=4)
    factors = [learning_rate_factor(s, 12, config) for s in range(12)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[8] == pytest.approx(0.5)
    assert 0 < factors[11] < 0.05


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
