from typing import Any

import pytest
import torch

from edgedetr.distill.detectors import dab_detr
from edgedetr.distill.types import Queries


@pytest.fixture
def model(make_model):
    return make_model("dab_detr")


def test_predictions_are_those_of_transformers(model, images):
    network = model.network
    with torch.no_grad():
        wanted = network(pixel_values=images)
        logits, boxes = dab_detr.predict(network, images)
    torch.testing.assert_close(logits, wanted.logits)
    torch.testing.assert_close(boxes, wanted.pred_boxes)


def test_it_learns_as_transformers_does(model, images):
    """Boxes of a layer teach the layer before; references do not."""
    network = model.network

    def gradients(boxes):
        network.zero_grad()
        weights = torch.linspace(-1, 1, boxes.numel()).reshape(boxes.shape)
        (boxes * weights).sum().backward()
        return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}

    passed = {}

    def loss(*arguments):  # boxes of every layer come last
        passed["boxes"] = arguments[-1]
        return arguments[0].sum(), {}, None

    network.loss_function = loss
    network(pixel_values=images, labels=[])
    wanted = gradients(passed["boxes"])
    memory = dab_detr.encode(network, images)
    found = gradients(dab_detr.decode(network, memory, memory.own).boxes)
    assert "model.query_refpoint_embeddings.weight" in wanted
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-3, msg=name)


def test_a_query_is_its_box(model):
    boxes = torch.rand(2, 5, 4)
    content = model.label_content(torch.tensor([[0, 1, 2, 1, 0]] * 2), boxes)
    assert torch.equal(content, torch.zeros(2, 5, model.width))


def test_boxes_without_extent_count_as_very_small_ones(model, images):
    def answers(size):
        boxes = torch.tensor([[[0.4, 0.5, size, size]]]).expand(2, 1, 4)
        queries = Queries(torch.zeros(2, 1, model.width), boxes, torch.ones(2, 1).bool())
        return model.decode(memory, queries)

    with torch.no_grad():
        memory = model.encode(images)
        nothing, small, larger = answers(0.0), answers(1e-3), answers(0.3)
    assert nothing.logits.isfinite().all()
    assert torch.equal(nothing.boxes, small.boxes)
    assert (nothing.boxes - larger.boxes).abs().max() > 0.1


def test_anchors_start_apart():
    torch.manual_seed(0)
    network: Any = dab_detr.build("edge-tiny", 3)
    anchors = network.model.query_refpoint_embeddings.weight.sigmoid()
    assert anchors.std(0).min() > 0.1


@pytest.mark.parametrize(("preset", "grid"), [("edge-small", (4, 6)), ("r18", (2, 3))])
def test_the_memory_is_one_level(preset, grid, images):
    network = dab_detr.build(preset, 3).eval()
    with torch.no_grad():
        memory = dab_detr.encode(network, images)
    assert memory.spatial_shapes == (grid,)
    assert memory.levels[0].shape == (2, dab_detr.width(network), *grid)
