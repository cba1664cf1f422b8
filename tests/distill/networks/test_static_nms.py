import pytest
import torch
from torchvision.ops import batched_nms, box_convert

from edgedetr.distill.networks.static_nms import ROUNDS, SILENT, detections, survivors


def crowd(seed, count=300):
    """Boxes around a few middles, in random order, with groups."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(*shape, generator=generator)

    middles = random(12, 2)[torch.randint(12, (count,), generator=generator)]
    boxes = torch.cat([middles + 0.05 * random(count, 2), 0.1 + 0.1 * random(count, 2)], 1)
    groups = torch.randint(3, (count,), generator=generator)
    return box_convert(boxes, "cxcywh", "xyxy"), groups


def greedy(boxes, groups, iou):
    keep = torch.zeros(len(boxes), dtype=torch.bool)
    keep[batched_nms(boxes, -torch.arange(len(boxes), dtype=torch.float32), groups, iou)] = True
    return keep


def chain(count):
    """Boxes that overlap the next one by half, and no other so much."""
    left = torch.arange(count) * 0.25
    return torch.stack([left, torch.zeros(count), left + 1, torch.ones(count)], 1)


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_the_survivors_are_those_of_torchvision(iou):
    cases = [crowd(seed) for seed in range(20)]
    found = survivors(*(torch.stack(part) for part in zip(*cases, strict=True)), iou)  # type: ignore[arg-type, call-arg]
    for (boxes, groups), row in zip(cases, found, strict=True):
        assert (row == greedy(boxes, groups, iou)).all()
        assert 12 < row.sum() < 240


def test_a_chain_as_long_as_the_rounds_is_exact_and_a_longer_one_loses_nothing():
    for count in (ROUNDS, 3 * ROUNDS):
        boxes, groups = chain(count), torch.zeros(count, dtype=torch.long)
        found, wanted = survivors(boxes[None], groups[None], 0.5)[0], greedy(boxes, groups, 0.5)
        assert wanted.tolist() == [i % 2 == 0 for i in range(count)]
        assert (found[:ROUNDS] == wanted[:ROUNDS]).all()
        assert found[wanted].all()
        # in the longer chain the number of rounds matters
        assert (found.sum() > wanted.sum()) == (count > ROUNDS)


def test_detections_of_three_boxes_worked_by_hand():
    boxes = torch.tensor([[[0.0, 0.0, 0.4, 0.4], [0.0, 0.0, 0.4, 0.38], [0.5, 0.5, 1.0, 1.0]]])
    logits = torch.tensor([[[1.0, -3.0], [2.0, -1.0], [0.0, -2.0]]])
    answers, found = detections(logits, boxes, candidates=5, iou=0.5, count=4)
    # class 0: box 1 (2.0) suppresses box 0 (1.0), box 2 (0.0) stays; class 1: box 1 (-1.0) stays
    # and box 2 (-2.0) too; box 0 of class 1 (-3.0) is no candidate any more
    expected = [[2.0, SILENT], [0.0, SILENT], [SILENT, -1.0], [SILENT, -2.0]]
    torch.testing.assert_close(answers[0], torch.tensor(expected))
    first, last = [0.2, 0.19, 0.4, 0.38], [0.75, 0.75, 0.5, 0.5]
    torch.testing.assert_close(found[0], torch.tensor([first, last, first, last]))


def test_each_class_may_have_its_own_box_and_nothing_is_left_of_the_suppressed():
    own = torch.tensor([[[[0.0, 0.0, 0.2, 0.2], [0.4, 0.4, 0.8, 0.6]], [[0.0, 0.0, 0.2, 0.2]] * 2]])
    logits = torch.tensor([[[3.0, 2.0], [1.0, -9.0]]])
    answers, found = detections(logits, own, candidates=3, iou=0.5, count=3)
    expected = [[3.0, SILENT], [SILENT, 2.0], [SILENT, SILENT]]
    torch.testing.assert_close(answers[0], torch.tensor(expected))
    expected = [[0.1, 0.1, 0.2, 0.2], [0.6, 0.5, 0.4, 0.2], [0.0] * 4]
    torch.testing.assert_close(found[0], torch.tensor(expected))
