from dataclasses import replace

import pytest
import torch

from edgedetr.distill.networks.criterion import real_time_detr_loss
from edgedetr.distill.networks.layer_losses import overlaps
from edgedetr.distill.networks.real_time_detr import nearest_boxes


@pytest.mark.parametrize("family", ["d_fine", "rt_detr"])
@torch.no_grad()
def test_every_layer_has_outputs_in_evaluation_and_the_mode_stays(family, make_model, images):
    model = make_model(family)
    memory = model.encode(images)
    outputs = model.decode(memory, memory.own)
    assert len(outputs.logits) == len(outputs.boxes) == 2
    assert model.network.model.decoder.training is False


@torch.no_grad()
def test_regions_are_the_last_boxes_of_the_own_queries(make_model, images):
    model = make_model("rt_detr")
    memory = model.encode(images)
    outputs, found = model.decode(memory, memory.own), model.regions(memory)
    torch.testing.assert_close(found.embeddings, outputs.hidden.flatten(0, 1))
    assert [len(b) for b in found.boxes] == [40, 40]


def test_denoising_queries_are_no_queries_of_the_memory(make_model, images, targets):
    model = make_model("d_fine")
    model.network.train()
    _, memory = model.training_pass(images, targets)
    assert memory.own.boxes.shape == (2, model.network.config.num_queries, 4)


def test_a_fresh_model_has_the_loss_of_this_project(make_model):
    assert make_model("d_fine").network.loss_function is real_time_detr_loss


@pytest.mark.parametrize("family", ["d_fine", "rt_detr", "rt_detr_v2", "deimv2"])
def test_places_have_the_content_of_the_pass_before_without_a_second_one(
    family, make_model, images, targets, monkeypatch
):
    """To the bit what projecting the memory anew gives, and without a gradient."""
    model = make_model(family)
    boxes = torch.rand(2, 7, 4)
    for memory in (model.encode(images), model.training_pass(images, targets)[1]):
        anew = model.place_content(replace(memory, proposals=None), boxes)
        with monkeypatch.context() as patched:
            patched.setattr(model.network.model.enc_output, "forward", None)
            reused = model.place_content(memory, boxes)
        assert torch.equal(reused, anew)
        assert not reused.requires_grad


def test_the_nearest_box_has_the_largest_generalized_iou():
    """As `overlaps` gives it; a box is nearest to itself, one at 0.5 to one at 0.4 and not 0.1."""
    boxes, others = torch.rand(2, 5, 4) + 0.01, torch.rand(2, 30, 4) + 0.01
    _, wanted = overlaps(boxes.unsqueeze(2), others.unsqueeze(1))
    assert torch.equal(nearest_boxes(boxes, others), wanted.argmax(-1))
    assert nearest_boxes(others, others).tolist() == [list(range(30))] * 2
    places = torch.tensor([[[0.1, 0.5, 0.1, 0.1], [0.4, 0.5, 0.1, 0.1]]])
    assert nearest_boxes(torch.tensor([[[0.5, 0.5, 0.1, 0.1]]]), places).tolist() == [[1]]
