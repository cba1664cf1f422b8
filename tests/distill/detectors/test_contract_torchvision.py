"""What the families of torchvision's parts have in common."""

import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_convert

from edgedetr.distill.detectors import faster_rcnn
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
    anchors = list(network.anchor_generator.on(levels, HW).split(counts))
    return network.postprocess_detections(outputs, [anchors], [HW])[0]


@pytest.mark.parametrize("family", DENSE)
def test_cells_in_ignored_areas_have_no_class_loss_but_objects_there_do(
    family, make_model, make_targets, images
):
    model = make_model(family)
    seen = {}
    model.network.head.register_forward_hook(lambda _, __, outputs: seen.update(outputs))

    def gradients(target):
        losses, _ = model.training_pass(images[:1], [target])
        (gradient,) = torch.autograd.grad(losses[LossTerm("classification")], seen["cls_logits"])
        return gradient[0].abs().sum(-1)

    left = [(0.25, 0.5, 0.5, 1.0)]
    with torch.no_grad():
        anchors = model.network.anchor_generator.on(model.encode(images[:1]).levels, HW)
    middle = (anchors[:, 0] + anchors[:, 2]) / 2
    small = (anchors[:, 2] - anchors[:, 0]) < 16
    inside, outside = small & (middle < 40), small & (middle > 56)
    plain = gradients(make_targets())
    blind = gradients(make_targets(ignored=left))
    assert (plain[inside] > 0).all()
    assert (blind[inside] == 0).all()
    torch.testing.assert_close(blind[outside], plain[outside])
    learned = gradients(make_targets((0.2, 0.5, 0.12, 0.2), ignored=left))
    assert 0 < (learned[inside] > 0).sum() < 40


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
