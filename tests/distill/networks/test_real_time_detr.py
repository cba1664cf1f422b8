import pytest
import torch

from edgedetr.distill.networks.criterion import real_time_detr_loss


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
