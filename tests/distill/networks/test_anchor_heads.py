from functools import partial

import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_convert

from edgedetr.distill.detectors import detector, faster_rcnn
from edgedetr.distill.networks.anchor_heads import (
    best_cells,
    neutral,
    sigmoid_logits,
    torchvision_targets,
)
from edgedetr.distill.networks.fpn import PyramidAnchors
from edgedetr.distill.networks.static_nms import SILENT
from edgedetr.distill.types import LossTerm

FAMILIES = ("faster_rcnn", "fcos", "retinanet")
DENSE = ("fcos", "retinanet")
HW = (64, 96)


def from_torchvision(model, image):
    """What torchvision's own suppression leaves of an image, from the same 300 candidates."""
    network = model.network
    pyramid = model.encode(image)
    levels = list(pyramid.levels)
    if model.family == "faster_rcnn":
        features = faster_rcnn._features(pyramid)
        proposals, _ = network.rpn(ImageList(image, [HW]), features)
        return network.roi_heads(features, proposals, [HW])[0][0]
    outputs = network.head(levels)
    scores = outputs["cls_logits"].sigmoid()
    if model.family == "fcos":
        scores = (scores * outputs["bbox_ctrness"].sigmoid()).sqrt()
    network.score_thresh = scores.flatten().topk(301).values[-1]
    counts = [x.shape[2] * x.shape[3] * model.anchor_kinds for x in levels]
    outputs = {k: v.split(counts, 1) for k, v in outputs.items()}
    anchors = list(network.anchor_generator.on(levels).split(counts))
    return network.postprocess_detections(outputs, [anchors], [HW])[0]


def test_the_published_backbones_have_five_levels_of_the_right_strides():
    for family, finest in (("faster_rcnn", 4), ("fcos", 8)):
        model = detector(family).build("r18", 3).eval()
        with torch.no_grad():
            pyramid = detector(family).encode(model, torch.zeros(1, 3, 128, 256))
        grids = [tuple(x.shape[1:]) for x in pyramid.levels]
        assert grids == [(256, 128 // s, 256 // s) for s in (finest << i for i in range(5))]
        assert pyramid.hw == (128, 256)


def test_anchors_lie_at_the_true_strides():
    anchors = PyramidAnchors(4, [2.0], [0.5, 2.0])
    levels = [torch.zeros(1, 1, -(-96 // s), -(-64 // s)) for s in (4, 8, 16, 32, 64)]
    boxes = anchors.on(levels)
    assert len(boxes) == 2 * (24 * 16 + 12 * 8 + 6 * 4 + 3 * 2 + 2 * 1)
    assert boxes[:3].tolist() == [[-6, -3, 6, 3], [-3, -6, 3, 6], [-2, -3, 10, 3]]
    assert boxes[-4:].tolist() == [  # 3 rows of stride 32 become 2 of stride 64
        [-91, -45, 91, 45],
        [-45, -91, 45, 91],
        [-91, 19, 91, 109],
        [-45, -27, 45, 155],
    ]


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


@pytest.mark.parametrize("family", DENSE)
def test_cells_in_ignored_areas_teach_no_class_but_objects_there_do(
    family, make_model, make_targets, images
):
    model = make_model(family)
    seen = {}
    model.network.head.register_forward_hook(lambda _, __, outputs: seen.update(outputs))

    def gradients(target):
        losses, _ = model.training_pass(images[:1], [target])
        (gradient,) = torch.autograd.grad(losses["classification"], seen["cls_logits"])
        return gradient[0].abs().sum(-1)

    left = [(0.25, 0.5, 0.5, 1.0)]
    with torch.no_grad():
        anchors = model.network.anchor_generator.on(model.encode(images[:1]).levels)
    middle = (anchors[:, 0] + anchors[:, 2]) / 2
    small = (anchors[:, 2] - anchors[:, 0]) < 16
    inside, outside = small & (middle < 40), small & (middle > 56)
    plain = gradients(make_targets())
    blind = gradients(make_targets(ignored=left))
    assert (plain[inside] > 0).all()
    assert (blind[inside] == 0).all()
    torch.testing.assert_close(blind[outside], plain[outside])
    taught = gradients(make_targets((0.2, 0.5, 0.12, 0.2), ignored=left))
    assert 0 < (taught[inside] > 0).sum() < 40


def test_anchors_and_proposals_in_ignored_areas_are_left_out(make_model, make_targets):
    model = make_model("faster_rcnn")
    heads = model.network.roi_heads
    boxes = torch.tensor(
        [[10.0, 10.0, 30.0, 34.0], [12.0, 30.0, 24.0, 42.0], [70.0, 8.0, 90.0, 30.0]]
    )
    target = make_targets((20 / 96, 22 / 64, 20 / 96, 24 / 64), ignored=[(0.25, 0.5, 0.5, 1.0)])
    truth = torchvision_targets([target], HW, first_label=1)
    labels, _ = model.network.rpn.assign_targets_to_anchors([boxes], truth)
    assert labels[0].tolist() == [1, -1, 0]
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


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_are_those_of_torchvision(family, make_model, images):
    model = make_model(family)
    if family == "faster_rcnn":  # torchvision takes the best of each level, we take the best of all
        model.network.rpn._pre_nms_top_n = {"testing": 2000}
    with torch.no_grad():
        logits, boxes = model.predict(images)
        expected = [from_torchvision(model, image[None]) for image in images]
    for z, b, wanted in zip(logits, boxes, expected, strict=True):
        alive = z.amax(-1) > SILENT
        assert len(wanted["boxes"]) == alive.sum() > 20
        scores, labels = z[alive].sigmoid().max(-1)
        torch.testing.assert_close(scores, wanted["scores"], atol=1e-5, rtol=1e-4)
        shift = 1 if family == "faster_rcnn" else 0
        assert (labels + shift == wanted["labels"]).all()
        corners = box_convert(b[alive], "cxcywh", "xyxy") * torch.tensor([96.0, 64.0, 96.0, 64.0])
        torch.testing.assert_close(corners, wanted["boxes"], atol=1e-3, rtol=1e-4)


def test_a_probability_and_its_logit():
    torch.testing.assert_close(
        sigmoid_logits(torch.tensor([0.5, 0.75, 0.0])),
        torch.tensor([0.0, torch.tensor(3.0).log().item(), -13.8155]),
    )
    assert sigmoid_logits(torch.ones(1)).isfinite()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_number_of_queries_does_not_depend_on_the_picture(family, make_model, images):
    model = make_model(family)
    with torch.no_grad():
        shapes = {
            tuple(x.shape)
            for x in (images, torch.zeros_like(images), 9 * images)
            for x in model.predict(x)
        }
    assert shapes == {(2, 100, 3), (2, 100, 4)}


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


def test_region_answers_are_those_of_torchvisions_second_stage(make_model, images):
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
        answers = model.answer_regions(pyramid, boxes)
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
        answers = model.answer_regions(model.encode(images), boxes)
    assert answers.deltas[0].tolist() == [[5, 0, 0, 0], [0] * 4, [0] * 4]
    # of weight 10: half a width to the right
    torch.testing.assert_close(answers.boxes[0, 0], torch.tensor([0.375, 0.25, 0.625, 0.5]))
    torch.testing.assert_close(answers.boxes[0, 1], boxes[0][0])


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


@pytest.mark.parametrize("family", DENSE)
def test_regions_are_the_most_certain_predictions(family, make_model, images):
    model = make_model(family)
    with torch.no_grad():
        found = model.regions(model.encode(images))
        _, boxes = model.predict(images)
    assert [len(b) for b in found.boxes] == [300, 300]
    for regions, predicted in zip(found.boxes, boxes, strict=True):
        best = box_convert(predicted[0], "cxcywh", "xyxy")
        torch.testing.assert_close(regions[0], best, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_on_two_images_lowers_the_loss(family, make_model, images, targets):
    model = make_model(family)
    model.network.train()
    optimizer = torch.optim.AdamW(model.network.parameters(), 1e-3)
    images = images.contiguous(memory_format=torch.channels_last)
    totals = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(15):
            losses, _ = model.training_pass(images, targets)
            total = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            totals.append(total.item())
    assert sum(totals[-3:]) < 0.5 * sum(totals[:3])
