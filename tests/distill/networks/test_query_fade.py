import numpy as np
import pytest
import torch

from edgedetr.distill.networks import query_fade
from edgedetr.distill.networks.query_fade import FADE, attention_bias


def test_the_last_query_is_not_seen_and_those_well_above_it_are():
    scores = torch.tensor([[1 + 4 * FADE, 1 + FADE, 1 + FADE / 2, 1.0]])
    weights = attention_bias(scores).exp()
    assert weights.shape == (1, 1, 1, 4)
    np.testing.assert_allclose(weights.flatten(), [1, 1, 0.5, 1e-4], rtol=1e-5)


def test_each_image_has_its_own_last_query_wherever_it_stands():
    scores = torch.tensor([[0.0, 8.0], [9.0, -1.0]])
    assert (attention_bias(scores).flatten(1) < 0).tolist() == [[True, False], [False, True]]


@pytest.fixture(params=["d_fine", "deimv2", "rt_detr", "rt_detr_v2"])
def model(request, make_model):
    return make_model(request.param)


@torch.no_grad()
def answers(model, content):
    """Logits and boxes of all chosen queries but the last, whose content is given."""

    def choose(_, args, kwargs):
        return args, kwargs | {"inputs_embeds": content}

    handle = model.network.model.decoder.register_forward_pre_hook(choose, with_kwargs=True)
    try:
        logits, boxes = model.predict(torch.zeros(1, 3, 64, 96))
    finally:
        handle.remove()
    return torch.cat([logits, boxes], -1)[:, :-1]


def tied_choices(model):
    """Two choices of the same queries but for the last, which scores the same, below the others."""
    head = model.network.model.enc_score_head
    weights = head.weight.detach()
    count, width = model.network.config.num_queries, weights.shape[1]
    first = torch.randn(1, count, width)
    scores = first @ weights.T
    lowest = scores.amax(-1).min() - 1
    first[0, -1] += torch.linalg.pinv(weights) @ (lowest - scores[0, -1])
    unscored = torch.randn(width)
    unscored -= torch.linalg.pinv(weights) @ (weights @ unscored)
    second = first.clone()
    second[0, -1] += unscored
    return first, second


def test_whichever_of_two_equals_is_chosen_last_the_other_outputs_agree(model, request):
    first, second = tied_choices(model)
    faded = (answers(model, first) - answers(model, second)).abs().max()
    request.getfixturevalue("unfaded")
    sharp = (answers(model, first) - answers(model, second)).abs().max()
    assert sharp > 1e-3
    assert faded < sharp / 100


def test_training_sees_every_query(model, make_targets, monkeypatch):
    monkeypatch.setattr(query_fade, "attention_bias", pytest.fail)
    images, targets = torch.zeros(1, 3, 64, 96), [make_targets((0.5, 0.5, 0.2, 0.2))]
    model.network.train()
    losses, _ = model.training_pass(images, targets)
    assert torch.isfinite(torch.stack(list(losses.values()))).all()
