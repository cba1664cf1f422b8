import torch
from torchvision.ops import MultiScaleRoIAlign

from edgedetr.distill.losses.region_pooling import region_features

RAMP = torch.arange(4.0).repeat(4, 1)[None, None]  # (1, 1, 4, 4): a cell's value is its column


def test_a_box_on_cells_gives_their_values():
    whole = region_features(RAMP, [torch.tensor([[0.0, 0.0, 1.0, 1.0]])], 4)
    torch.testing.assert_close(whole[0, 0, 1], torch.tensor([0.125, 1.0, 2.0, 2.875]))
    middle = region_features(RAMP, [torch.tensor([[0.25, 0.5, 0.75, 1.0]])], 2)
    torch.testing.assert_close(middle, torch.tensor([[[[1.0, 2.0], [1.0, 2.0]]]]))


def test_levels_of_different_stride_agree_on_a_ramp():
    """A value at a cell's middle of column + 1/2 over W, sampled at the same fractions."""
    box = [torch.tensor([[0.3, 0.3, 0.7, 0.6]])]
    fine, coarse = (
        region_features(((torch.arange(n) + 0.5) / n).repeat(n, 1)[None, None], box, 3)
        for n in (32, 8)
    )
    torch.testing.assert_close(fine, coarse)
    middles = 0.3 + 0.4 * (torch.arange(3) + 0.5) / 3
    torch.testing.assert_close(fine[0, 0, 1], middles)


def test_each_box_is_pooled_from_its_own_image_and_its_gradient_goes_there():
    level = torch.stack([RAMP[0], RAMP[0] + 10]).requires_grad_()
    box = torch.tensor([[0.25, 0.25, 0.75, 0.75]])
    pooled = region_features(level, [box[:0], box.repeat(2, 1)], 2)
    torch.testing.assert_close(pooled[:, 0, 0], torch.tensor([[11.0, 12.0]] * 2))
    pooled.sum().backward()
    assert level.grad is not None
    assert level.grad[0].abs().sum() == 0
    assert level.grad[1].sum() == 8


def test_no_boxes_give_no_features():
    assert region_features(RAMP, [torch.zeros(0, 4)], 7).shape == (0, 1, 7, 7)


def test_unaligned_pooling_is_that_of_torchvisions_heads():
    level = torch.rand(1, 2, 8, 8)
    boxes = torch.tensor([[0.1, 0.2, 0.7, 0.9]])
    head = MultiScaleRoIAlign(["level"], 7, 2)
    expected = head({"level": level}, [boxes * 64], [(64, 64)])
    torch.testing.assert_close(region_features(level, [boxes], 7, aligned=False), expected)
