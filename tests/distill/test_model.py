from dataclasses import replace

import pytest
import torch

from edgedetr.distill.losses.distillation_points import SharedQueries
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


@torch.no_grad()
def test_a_teachers_classes_are_joined_and_left_out_by_name(make_model, images):
    """Vehicles are Car or Cyclist: 1 - (1 - p)(1 - q); a class of no name is not known."""
    teacher = make_model()
    mapped = teacher.with_classes((("Car", "Cyclist"), (), "Pedestrian"))
    memory = teacher.encode(images)
    found, plain = (m.decode(memory, memory.own) for m in (mapped, teacher))
    car, pedestrian, cyclist = plain.logits.sigmoid().unbind(-1)
    scores = found.logits.sigmoid()
    torch.testing.assert_close(scores[..., 0], 1 - (1 - car) * (1 - cyclist))
    torch.testing.assert_close(scores[..., 2], pedestrian)
    assert found.known == mapped.known_classes == (0, 2)
    labels, boxes = torch.tensor([[0, 1, 2]]).repeat(2, 1), torch.full((2, 3, 4), 0.4)
    queries = SharedQueries(labels, boxes, torch.ones(2, 3, dtype=torch.bool))
    content = queries.queries(mapped, memory).content
    own = teacher.label_content(torch.tensor([[0, 1, 1]]).repeat(2, 1), boxes)
    assert torch.equal(content[:, [0, 2]], own[:, [0, 2]])
    assert torch.equal(content[:, 1], teacher.place_content(memory, boxes)[:, 1])


@torch.no_grad()
def test_a_softmax_teachers_other_classes_are_background(make_model, images):
    teacher = make_model("faster_rcnn")
    pyramid = teacher.encode(images)
    boxes = [torch.tensor([[0.1, 0.1, 0.5, 0.5]])] * 2
    plain = teacher.classify_regions(pyramid, boxes).logits.softmax(-1)
    mapped = teacher.with_classes((("Car", "Cyclist"), ())).classify_regions(pyramid, boxes)
    found = mapped.logits.softmax(-1)
    torch.testing.assert_close(found[:, 0], plain[:, 0] + plain[:, 2])
    torch.testing.assert_close(found[:, 1], plain[:, 1] + plain[:, 3])
    assert found[:, 2].abs().max() == 0
    assert mapped.known == (0,)
    assert mapped.boxes.shape == mapped.deltas.shape == (2, 2, 4)


@torch.no_grad()
def test_a_teacher_in_another_frame_answers_in_the_students(make_model, images):
    """Its input shows the student's in the left half: boxes are halved on the way in."""
    teacher = make_model()
    plain = teacher.encode(images)
    frame = torch.tensor([[0.5, 1.0, 0.0, 0.0]]).repeat(2, 1)
    inside = plain.own.boxes * torch.tensor([0.5, 1.0, 0.5, 1.0])
    wanted = teacher.decode(plain, replace(plain.own, boxes=inside))
    found = teacher.decode(replace(plain, frame=frame), plain.own)
    torch.testing.assert_close(found.logits, wanted.logits)
    moved = wanted.boxes / torch.tensor([0.5, 1.0, 0.5, 1.0])
    torch.testing.assert_close(found.boxes, moved)
    faster = make_model("faster_rcnn")
    pyramid = faster.encode(images)
    boxes = [torch.tensor([[0.2, 0.1, 0.8, 0.5]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]])]
    halved = [b * torch.tensor([0.5, 1.0, 0.5, 1.0]) for b in boxes]
    one = faster.classify_regions(pyramid, halved)
    two = faster.classify_regions(replace(pyramid, frame=frame), boxes)
    torch.testing.assert_close(two.logits, one.logits)
    torch.testing.assert_close(two.boxes, one.boxes / torch.tensor([0.5, 1.0, 0.5, 1.0]))
