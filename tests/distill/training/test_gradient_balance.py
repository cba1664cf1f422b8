import pytest
import torch

from edgedetr.distill.training.gradient_balance import EVERY, Balance, gradient_norm


def losses(memory, scale):
    return {"loss": (3 * memory).sum()}, {"a": scale * memory.sum(), "b": memory.sum()}


def test_a_term_is_held_to_its_share_of_the_detections_gradient():
    memory = torch.ones(2, 5, requires_grad=True)
    detection, terms = losses(memory, 50.0)
    balanced = Balance({"a": 0.1})(detection, terms, [memory])
    wanted = 0.1 * gradient_norm(detection["loss"], [memory])
    assert gradient_norm(balanced["a"], [memory]).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert balanced["b"].item() == terms["b"].item()


def test_it_measures_now_and_then_and_remembers():
    memory = torch.ones(3, requires_grad=True)
    balance = Balance({"a": 1.0})
    seen = []
    for step in range(EVERY + 1):
        detection, terms = losses(memory, 1.0 if step == 0 else 2.0)
        balance(detection, terms, [memory])
        seen.append(balance.factors.item())
    assert seen[:EVERY] == [pytest.approx(3.0)] * EVERY
    assert seen[EVERY] == pytest.approx(0.8 * 3 + 0.2 * 1.5)
    again = Balance({"a": 1.0})
    again.load_state_dict(balance.state_dict())
    assert again.factors.item() == seen[-1]


def test_a_term_without_gradient_at_the_memory_keeps_its_weight():
    memory = torch.ones(3, requires_grad=True)
    terms = {"a": torch.zeros(()), "b": torch.ones((), requires_grad=True) * 2}
    balanced = Balance({"a": 0.5, "b": 0.5})({"loss": memory.sum()}, terms, [memory])
    assert (balanced["a"].item(), balanced["b"].item()) == (0, 2)


def test_evaluation_measures_nothing():
    memory = torch.ones(3, requires_grad=True)
    balance = Balance({"a": 1.0}).eval()
    balance(*losses(memory, 1.0), [memory])
    assert balance.factors.item() == 1
    assert balance.passes.item() == 0
