import pytest
import torch

from edgedetr.distill.types import DetrOutputs, LossTerm, Memory, Pyramid, Queries


@pytest.fixture
def memory():
    """Two images, levels of 2 x 3 and 1 x 2 cells, one channel: the index of the cell."""
    tokens = torch.arange(8.0).reshape(1, 8, 1).repeat(2, 1, 1)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[1, 5] = False
    own = Queries(torch.zeros(2, 3, 1), torch.full((2, 3, 4), 0.5), torch.ones(2, 3) > 0)
    return Memory(tokens, ((2, 3), (1, 2)), mask, own, {"grid": 7})


def test_the_levels_of_a_memory_lie_row_by_row(memory):
    fine, coarse = memory.levels
    assert fine[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert coarse[1, 0].tolist() == [[6, 7]]
    assert memory.masks[0][1].tolist() == [[True] * 3, [True, True, False]]
    assert memory.masks[1].shape == (2, 1, 2)


def test_features_come_back_from_the_tensors_of_each_image(memory):
    second = memory.with_tensors([t[1:] for t in memory.tensors()])
    assert second.spatial_shapes == memory.spatial_shapes
    assert second.decoder_inputs == {"grid": 7}
    assert torch.equal(second.mask, memory.mask[1:])
    pyramid = Pyramid((torch.zeros(2, 4, 2, 3), torch.ones(2, 4, 1, 2)), (16, 24))
    first = pyramid.with_tensors([t[:1] for t in pyramid.tensors()])
    assert [level.shape for level in first.levels] == [(1, 4, 2, 3), (1, 4, 1, 2)]
    assert [mask.shape for mask in first.masks] == [(1, 2, 3), (1, 1, 2)]
    assert first.hw == (16, 24)


def test_regions_are_the_last_layers_boxes_inside_the_image():
    boxes = torch.tensor([[[[0.5, 0.5, 0.2, 0.2]]], [[[0.1, 0.5, 0.4, 0.2]]]])
    outputs = DetrOutputs(torch.zeros(2, 1, 1, 3), boxes, torch.ones(1, 1, 8))
    found = outputs.regions()
    torch.testing.assert_close(found.boxes[0], torch.tensor([[0.0, 0.4, 0.3, 0.6]]))
    assert found.embeddings.shape == (1, 8)
    assert found.kinds.tolist() == [0]


@pytest.mark.parametrize(
    ("term", "name"),
    [
        (LossTerm("loss_giou"), "loss_giou"),
        (LossTerm("loss_giou", 1), "loss_giou"),
        (LossTerm("loss_giou", 0, "denoising"), "loss_giou"),
        (LossTerm("loss_ce", apart=True), "loss_ce"),
        (LossTerm("loss_ce", 0, apart=True), "loss_ce_0"),
        (LossTerm("loss_ce", None, "encoder", apart=True), "loss_ce_encoder"),
        (LossTerm("loss_ce", 1, "denoising", apart=True), "loss_ce_1_denoising"),
    ],
)
def test_a_log_adds_up_layers_or_shows_them_apart(term, name):
    assert term.log_name == name
