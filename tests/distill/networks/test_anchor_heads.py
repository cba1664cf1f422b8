from functools import partial

import torch

from edgedetr.distill.detectors import detector
from edgedetr.distill.networks.anchor_heads import (
    best_cells,
    neutral,
    sigmoid_logits,
    torchvision_targets,
)

HW = (64, 96)


def test_the_truth_in_pixels(make_targets):
    target = make_targets((0.5, 0.5, 0.5, 0.25), ignored=[(0.25, 0.5, 0.5, 1.0)])
    (shifted,) = torchvision_targets([target], HW, first_label=1)
    assert shifted["boxes"].tolist() == [[24, 24, 72, 40]]
    assert shifted["ignored"].tolist() == [[0, 0, 48, 64]]
    assert (shifted["labels"].tolist(), shifted["hw"]) == ([1], HW)


def test_boxes_that_ignored_areas_take_out_of_the_background(make_targets):
    matcher = detector("retinanet").build("edge-tiny", 3).proposal_matcher
    boxes = torch.tensor(
        [
            [20.0, 20.0, 30.0, 30.0],  # inside
            [10.0, 20.0, 30.0, 40.0],  # half inside
            [5.0, 20.0, 25.0, 40.0],  # a quarter inside, IoU 1/7
            [80.0, 10.0, 90.0, 20.0],  # elsewhere
            [-40.0, 20.0, 30.0, 40.0],  # a third of what the image shows of it
        ]
    )
    area = [(30 / 96, 30 / 64, 20 / 96, 20 / 64)]
    mark = partial(neutral, boxes, matcher=matcher)
    (target,) = torchvision_targets([make_targets(ignored=area)], HW)
    assert mark(target=target).tolist() == [True, True, False, False, False]
    whole = torchvision_targets([make_targets(ignored=[(0.5, 0.5, 1.0, 1.0)])], HW)[0]
    assert mark(target=whole).all()
    small = torchvision_targets([make_targets(ignored=[(25 / 96, 25 / 64, 7 / 96, 7 / 64)])], HW)[0]
    assert mark(target=small).tolist() == [True, False, False, False, False]  # IoU 0.49
    assert not mark(target=torchvision_targets([make_targets()], HW)[0]).any()


def test_a_probability_and_its_logit():
    torch.testing.assert_close(
        sigmoid_logits(torch.tensor([0.5, 0.75, 0.0])),
        torch.tensor([0.0, torch.tensor(3.0).log().item(), -13.8155]),
    )
    assert sigmoid_logits(torch.ones(1)).isfinite()


def test_the_best_cells_worked_by_hand():
    features = [
        torch.tensor([[1.0, 2.0], [10.0, 20.0]])[None, :, None],
        torch.tensor([[3.0], [30.0]])[None, :, None],
    ]
    scores = torch.arange(9.0).flip(0)[None].clone()
    scores[0, 4], scores[0, 8] = 20, 30
    boxes = torch.arange(36.0).reshape(1, 9, 4) / 36
    found = best_cells(scores, boxes, features, kinds=3)
    torch.testing.assert_close(found.embeddings[:3], torch.tensor([[3.0, 30], [2, 20], [1, 10]]))
    assert found.kinds[:4].tolist() == [2, 1, 0, 1]
    torch.testing.assert_close(found.boxes[0][:2], boxes[0, [8, 4]])
