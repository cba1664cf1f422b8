import pytest
import torch

from edgedetr.distill.detectors import faster_rcnn
from edgedetr.distill.networks.anchor_heads import torchvision_targets
from edgedetr.distill.networks.rpn import BatchSampler
from edgedetr.distill.networks.torchvision_model import MODEL, published_network
from edgedetr.distill.types import LossTerm

HW = (64, 96)


def test_proposals_in_ignored_areas_are_left_out(make_model, make_targets):
    heads = make_model("faster_rcnn").network.roi_heads
    boxes = torch.tensor(
        [[10.0, 10.0, 30.0, 34.0], [12.0, 30.0, 24.0, 42.0], [70.0, 8.0, 90.0, 30.0]]
    )
    target = make_targets((20 / 96, 22 / 64, 20 / 96, 24 / 64), ignored=[(0.25, 0.5, 0.5, 1.0)])
    truth = torchvision_targets([target], HW, first_label=1)
    left_out = faster_rcnn._in_ignored_areas(boxes, truth[0], heads.proposal_matcher)
    assert left_out.tolist() == [False, True, False]


def test_classes_of_the_second_stage_come_after_the_background(make_model, make_targets, images):
    model = make_model("faster_rcnn")
    predictor = model.network.roi_heads.box_predictor
    with torch.no_grad():
        predictor.cls_score.weight.zero_()
        predictor.cls_score.bias.copy_(torch.tensor([0.0, 0.0, 4.0, 0.0]))
        logits, _ = model.predict(images)
    # a softmax of 4 against three zeros: exp(4) / 3 to one
    assert logits[:, 0].argmax(-1).tolist() == [1, 1]
    torch.testing.assert_close(logits[0, 0, 1], torch.tensor(4 - torch.tensor(3.0).log().item()))
    model.network.train()
    target = make_targets((0.3, 0.4, 0.4, 0.5), (0.7, 0.6, 0.4, 0.5))
    losses = [
        model.training_pass(images, [t, t])[0][LossTerm("loss_classifier")]
        for t in (
            make_targets(),
            type(target)(torch.tensor([1, 1]), target.boxes, target.ignored),
            type(target)(torch.tensor([2, 2]), target.boxes, target.ignored),
        )
    ]
    assert losses[1] < losses[0]  # objects of class 1 are what it says, background is not
    assert losses[2] > losses[1]


def test_pooling_by_selection_is_pooling_by_size(make_model, images):
    model = make_model("faster_rcnn")
    pool = model.network.roi_heads.box_roi_pool
    corners = torch.rand(2, 40, 2, 2, generator=torch.Generator().manual_seed(4)).sort(2).values
    boxes = corners.flatten(2) * torch.tensor([96.0, 64.0, 96.0, 64.0])
    boxes[:, ::2, 2:] = boxes[:, ::2, :2] + 0.2 * (boxes[:, ::2, 2:] - boxes[:, ::2, :2])
    with torch.no_grad():
        pyramid = model.encode(images)
        expected = pool(faster_rcnn._features(pyramid), list(boxes), [HW] * 2)
        found = faster_rcnn.pooled_by_selection(pool, pyramid, boxes)
    torch.testing.assert_close(found, expected)
    assert len(pool.map_levels(list(boxes)).unique()) >= 3


def test_region_outputs_are_those_of_torchvisions_second_stage(make_model, images):
    model = make_model("faster_rcnn")
    heads = model.network.roi_heads
    heads.nms_thresh, heads.detections_per_img = 1.0, 1000
    boxes = [
        torch.tensor([[0.1, 0.2, 0.5, 0.8], [0.3, 0.3, 0.4, 0.5]]),
        torch.tensor([[0.0, 0.0, 1.0, 1.0]]),
    ]
    scale = torch.tensor([96.0, 64.0, 96.0, 64.0])
    with torch.no_grad():
        pyramid = model.encode(images)
        answers = model.classify_regions(pyramid, boxes)
        expected, _ = heads(
            faster_rcnn._features(pyramid), [b * scale for b in boxes], [HW] * len(boxes)
        )
    scores = answers.logits.softmax(-1)[:, 1:]
    assert answers.embeddings.shape == (3, model.embedding_width)
    for rows, wanted in zip((slice(0, 2), slice(2, 3)), expected, strict=True):
        order = scores[rows].flatten().argsort(descending=True)
        torch.testing.assert_close(scores[rows].flatten()[order], wanted["scores"])
        assert (order % 3 + 1 == wanted["labels"]).all()
        found = answers.boxes[rows].flatten(0, 1)[order] * scale
        torch.testing.assert_close(found, wanted["boxes"], atol=1e-4, rtol=1e-4)


def test_deltas_are_in_the_heads_own_coding(make_model, images):
    model = make_model("faster_rcnn")
    boxes = [torch.tensor([[0.25, 0.25, 0.5, 0.5]]), torch.zeros(0, 4)]
    predictor = model.network.roi_heads.box_predictor
    with torch.no_grad():
        predictor.bbox_pred.weight.zero_()
        predictor.bbox_pred.bias.copy_(torch.tensor([9.0] * 4 + [5.0, 0, 0, 0] + [0.0] * 8))
        answers = model.classify_regions(model.encode(images), boxes)
    assert answers.deltas[0].tolist() == [[5, 0, 0, 0], [0] * 4, [0] * 4]
    # of weight 10: half a width to the right
    torch.testing.assert_close(answers.boxes[0, 0], torch.tensor([0.375, 0.25, 0.625, 0.5]))
    torch.testing.assert_close(answers.boxes[0, 1], boxes[0][0])


@pytest.mark.slow
def test_a_published_network_trains_and_draws_for_the_whole_batch(images, targets):
    config = {MODEL: "fasterrcnn_resnet50_fpn"}
    network = faster_rcnn.build_from(config, 3).train()
    losses, _ = faster_rcnn.training_pass(network, images, targets)
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    before = published_network(config, 4)
    for name in ("rpn", "roi_heads"):
        sampler, plain = (getattr(model, name).fg_bg_sampler for model in (network, before))
        assert isinstance(sampler, BatchSampler)
        assert vars(sampler).items() >= vars(plain).items()
