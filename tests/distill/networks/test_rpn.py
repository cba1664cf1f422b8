import torch

from edgedetr.distill.networks.anchor_heads import torchvision_targets

HW = (64, 96)


def test_anchors_in_ignored_areas_are_neither_object_nor_background(make_model, make_targets):
    rpn = make_model("faster_rcnn").network.rpn
    boxes = torch.tensor(
        [[10.0, 10.0, 30.0, 34.0], [12.0, 30.0, 24.0, 42.0], [70.0, 8.0, 90.0, 30.0]]
    )
    target = make_targets((20 / 96, 22 / 64, 20 / 96, 24 / 64), ignored=[(0.25, 0.5, 0.5, 1.0)])
    truth = torchvision_targets([target], HW, first_label=1)
    labels, _ = rpn.assign_targets_to_anchors([boxes], truth)
    assert labels[0].tolist() == [1, -1, 0]


def test_without_an_anchor_to_judge_both_losses_are_zero(make_model):
    rpn = make_model("faster_rcnn").network.rpn
    objectness, deltas = torch.ones(4, 1, requires_grad=True), torch.ones(4, 4, requires_grad=True)
    losses = rpn.compute_loss(objectness, deltas, [torch.full((4,), -1)], [torch.zeros(4, 4)])
    assert [x.item() for x in losses] == [0, 0]
    torch.stack(losses).sum().backward()
    assert objectness.grad is not None
    assert objectness.grad.abs().sum() == 0


@torch.no_grad()
def test_proposals_have_a_fixed_number_and_lie_in_the_image(make_model, images):
    model = make_model("faster_rcnn")
    boxes, alive = model.network.rpn.propose(model.encode(images))
    assert boxes.shape == (2, 100, 4)
    assert alive.any(1).all()
    assert boxes.amin() >= 0
    assert (boxes.flatten(0, 1).amax(0) <= torch.tensor([96.0, 64.0, 96.0, 64.0])).all()
