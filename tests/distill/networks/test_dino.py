import pytest
import torch

from edgedetr.distill.types import Queries


@pytest.fixture
def model(make_model):
    return make_model("dino")


def test_the_encoder_has_heads_of_its_own(model):
    network = model.network
    assert network.class_embed is not network.model.decoder.class_embed
    assert network.bbox_embed is not network.model.decoder.bbox_embed


def test_a_layer_looks_forward_twice(make_model, images):
    """The third box teaches the third correction and the second, alike, and not the first."""
    model = make_model("dino", "edge-small")
    corrections = []

    def keep(_module, _inputs, correction):
        correction.retain_grad()
        corrections.append(correction)

    with model.network.model.decoder.bbox_embed.register_forward_hook(keep):
        boxes = torch.tensor([[[0.3, 0.4, 0.2, 0.3], [0.7, 0.5, 0.3, 0.4]]] * 2)
        content = model.label_content(torch.tensor([[0, 1]] * 2), boxes)
        queries = Queries(content, boxes, torch.ones(2, 2, dtype=torch.bool))
        answers = model.decode(model.encode(images), queries)
    reference = torch.logit(boxes)
    for layer, correction in enumerate(corrections):
        reference = reference + correction.detach()
        torch.testing.assert_close(answers.boxes[layer], reference.sigmoid())
    answers.boxes[2].sum().backward()
    first, second, third = (c.grad for c in corrections)
    assert third.abs().sum() > 0
    torch.testing.assert_close(second, third)
    assert first is None or not first.any()
