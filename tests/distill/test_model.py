import pytest
import torch

from edgedetr.distill.model import new_model
from edgedetr.distill.types import Queries
from edgedetr.runtime.errors import UnknownNameError


def test_a_teachers_outputs_are_in_the_chosen_classes(make_model, images):
    teacher = make_model()
    turned = teacher.with_classes(("Cyclist", "Car"))
    assert turned.num_classes == 2
    labels, boxes = torch.tensor([[0, 1, 0]]).repeat(2, 1), torch.full((2, 3, 4), 0.4)
    content = turned.label_content(labels, boxes)
    plain = teacher.label_content(torch.tensor([[2, 0, 2]]).repeat(2, 1), boxes)
    assert torch.equal(content, plain)
    queries = Queries(content, boxes, torch.ones(2, 3, dtype=torch.bool))
    with torch.no_grad():
        memory = teacher.encode(images)
        two, three = (m.decode(memory, queries).logits for m in (turned, teacher))
    torch.testing.assert_close(two, three[..., [2, 0]])
    assert teacher.with_classes(teacher.spec.class_names).class_map is None


@pytest.mark.parametrize("family", ["d_fine", "fcos"])
@torch.no_grad()
def test_predictions_have_the_chosen_classes_in_the_chosen_order(family, make_model, images):
    model = make_model(family)
    logits, boxes = model.predict(images)
    turned_logits, turned_boxes = model.with_classes(("Cyclist", "Car")).predict(images)
    assert torch.equal(turned_logits, logits[..., [2, 0]])
    assert torch.equal(turned_boxes, boxes)


def test_a_preset_that_is_not_there_is_named_with_the_nearest(make_model):
    with pytest.raises(UnknownNameError, match=r"no preset 'edge-tony' in d_fine.*edge-tiny"):
        new_model("d_fine", "edge-tony", make_model().spec)
