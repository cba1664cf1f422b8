import math

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from edgedetr.distill.losses.region_pooling import region_features
from edgedetr.distill.losses.semantic_imitation import LOWEST_TAU, SemanticImitation

BOXES = [torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.3, 0.2, 0.9, 0.9]]), torch.zeros(0, 4)]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_level_weights_are_a_softmax_over_levels():
    """They add up to 1 for each region; over regions, each level's would."""
    torch.manual_seed(0)
    module = SemanticImitation(4, 8)
    weights = module.level_weights(noise(3, 5, 8, 7, 7), noise(5, 8, 7, 7, seed=1))
    torch.testing.assert_close(weights.sum(0), torch.ones(5))
    assert (weights.sum(1) - 1).abs().max() > 0.1


def test_level_weights_of_a_hand_worked_region():
    """Embeddings (0, 1) and (1, 1) against (1, 2) at tau 2: exp(2 / 2) to exp(3 / 2)."""
    module = SemanticImitation(2, 2)
    module.embed = torch.nn.Flatten()  # type: ignore[assignment]
    with torch.no_grad():
        module.raw_tau.copy_(torch.tensor(2 - LOWEST_TAU).expm1().log())
    pooled = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).reshape(2, 1, 2, 1, 1)
    weights = module.level_weights(pooled, torch.tensor([[1.0, 2.0]]).reshape(1, 2, 1, 1))
    one = 1 / (1 + math.exp(0.5))
    torch.testing.assert_close(weights, torch.tensor([[one], [1 - one]]))


def test_imitation_mixes_all_levels():
    """Levels of 1 and 3 everywhere, mixed 1 to 3, against 2: (2.5 - 2)^2."""
    module = SemanticImitation(1, 1)
    module.adapter = torch.nn.Identity()  # type: ignore[assignment]
    module.level_weights = lambda *_: torch.tensor([[0.25] * 2, [0.75] * 2])  # type: ignore[method-assign]
    levels = [torch.full((2, 1, 8, 12), 1.0), torch.full((2, 1, 4, 6), 3.0)]
    loss = module(levels, BOXES, torch.full((2, 1, 7, 7), 2.0))
    assert loss.item() == pytest.approx(0.25)


def test_adapting_before_pooling_is_adapting_after_it():
    module, level = SemanticImitation(4, 6), noise(2, 4, 8, 12)
    before = region_features(module.adapter(level), BOXES, 7)
    torch.testing.assert_close(before, module.adapter(region_features(level, BOXES, 7)))


def test_tau_is_one_at_first_and_stays_positive():
    module = SemanticImitation(4, 4)
    assert module.tau.item() == pytest.approx(1)
    with torch.no_grad():
        module.raw_tau.fill_(-100.0)
    assert module.tau.item() == pytest.approx(LOWEST_TAU)
    pooled, target = noise(2, 3, 4, 7, 7), noise(3, 4, 7, 7, seed=1)
    assert module.level_weights(pooled, target).isfinite().all()


def test_a_student_with_the_teachers_level_has_no_loss():
    """Both pool at the same places; on a ramp one point of a bin says what four do."""
    level = torch.arange(16.0).repeat(16, 1)[None, None]
    boxes = torch.tensor([[0.1, 0.2, 0.7, 0.9]])
    target = MultiScaleRoIAlign(["level"], 7, 2)({"level": level}, [boxes * 64], [(64, 64)])
    module = SemanticImitation(1, 1)
    with torch.no_grad():
        for parameter, value in zip(module.adapter.parameters(), (1, 0), strict=True):
            parameter.fill_(value)
    loss = module([level], [boxes], target)
    assert loss.item() == pytest.approx(0, abs=1e-6)
