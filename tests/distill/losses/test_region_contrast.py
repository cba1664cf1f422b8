import math

import pytest
import torch

from edgedetr.distill.losses.region_contrast import RegionContrast, info_nce


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_info_nce_of_a_hand_worked_row():
    """Own 1, negatives 0 and (left out) 5: log(1 + e^-1)."""
    scores = torch.tensor([[0.0, 1.0, 5.0]])
    left_out = torch.tensor([[False, False, True]])
    loss = info_nce(scores, torch.tensor([1]), left_out)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_the_positive_stays_in_the_denominator():
    """A region is alike to itself; left out of the sum, the loss would be negative."""
    scores = torch.tensor([[3.0, -1.0]])
    itself = torch.tensor([[True, False]])
    loss = info_nce(scores, torch.tensor([0]), itself)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-4)), rel=1e-4)
    alone = info_nce(scores, torch.tensor([0]), torch.tensor([[True, True]]))
    assert alone.item() == 0


def identity_contrast(length=4):
    module = RegionContrast(2, 2, 1, length)
    module.projection.weight.data = torch.eye(2)
    return module


def contrast(module, student, target, positive=None, alike=None):
    positive = torch.ones(len(student), dtype=torch.bool) if positive is None else positive
    if alike is None:
        alike = torch.zeros(int(positive.sum()), len(student), dtype=torch.bool)
    kinds = torch.zeros(len(student), dtype=torch.long)
    return module((student, kinds), target, positive, alike, 0.5)


def test_contrast_of_two_hand_worked_regions():
    """Cosines 1 to their own and 0 to the other, temperature 0.5; only the first learns."""
    student, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    positive = torch.tensor([True, False])
    loss = contrast(identity_contrast(), student, target, positive)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_the_queue_adds_negatives_and_is_of_the_batches_before():
    module, axes = identity_contrast(), torch.eye(2)
    first = contrast(module, axes, axes)
    assert first.item() == pytest.approx(math.log(1 + math.exp(-2)))
    second = contrast(module, axes, axes)  # the queue holds both axes: 2 + 2 candidates
    assert second.item() == pytest.approx(math.log(2 + 2 * math.exp(-2)), rel=1e-5)


def test_the_queue_forgets_the_oldest_and_is_state():
    module = identity_contrast(length=3)
    for value in (1.0, 2.0):
        contrast(module, torch.eye(2), torch.tensor([[1.0, 0.0], [value, 1.0]]))
    assert module.filled.item() == 3
    assert module.place.item() == 1
    expect = torch.nn.functional.normalize(torch.tensor([[2.0, 1], [1, 1], [1, 0]]), dim=1)
    torch.testing.assert_close(module.queue, expect)
    resumed = identity_contrast(length=3)
    resumed.load_state_dict(module.state_dict())
    one, two = (contrast(m, torch.eye(2), torch.eye(2)) for m in (module, resumed))
    assert one.item() == two.item()
    assert torch.equal(module.queue, resumed.queue)


def test_more_regions_than_the_queue_holds_fill_it():
    module = identity_contrast(length=2)
    contrast(module, noise(5, 2), noise(5, 2))
    assert module.filled.item() == 2
    assert (module.queue.norm(dim=1) - 1).abs().max() < 1e-6


def test_evaluation_leaves_the_queue_alone():
    module = identity_contrast().eval()
    contrast(module, torch.eye(2), torch.eye(2))
    assert module.filled.item() == 0


def test_each_anchor_kind_has_a_projection_of_its_own():
    module = RegionContrast(2, 3, 4, 8)
    embeddings = noise(1, 2).repeat(4, 1)
    projected = module.projected(embeddings, torch.arange(4))
    for kind in range(4):
        layer = module.projection.weight[3 * kind : 3 * kind + 3]
        expect = torch.nn.functional.normalize(layer @ embeddings[0], dim=0)
        torch.testing.assert_close(projected[kind], expect)
