import math
from dataclasses import replace

import pytest
import torch

from edgedetr.distill.losses.decoder_losses import (
    DECODER_TERMS,
    DecoderLossSettings,
    decoder_losses,
)
from edgedetr.distill.types import DetrOutputs

EVEN = [0.0, 0.0]
SURE = [math.log(3.0), -math.log(3.0)]  # scores 0.75 and 0.25
KL = 2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))  # from SURE to EVEN, bernoulli


def outputs(logits, sizes):
    """One image, one query: class logits and box size of each layer, at the image's centre."""
    boxes = torch.tensor([[[[0.5, 0.5, s, s]]] for s in sizes])
    corners = torch.zeros(len(sizes), 1, 1, 8)
    return DetrOutputs(torch.tensor(logits)[:, None, None], boxes, torch.zeros(1, 1, 4), corners)


def losses(student, teacher, counts=True, **choices):
    counted = torch.full(student.logits.shape[1:3], counts)
    found = decoder_losses(student, teacher, counted, DecoderLossSettings(**choices))
    assert tuple(found) == DECODER_TERMS
    return {k: v.item() for k, v in found.items()}


def test_a_hand_worked_case():
    # box 0.2 against 0.4: L1 (0 + 0 + 0.2 + 0.2) / 4 = 0.1, GIoU = IoU = 0.25
    found = losses(outputs([EVEN], [0.2]), outputs([SURE], [0.4]))
    assert found["class"] == pytest.approx(KL, rel=1e-5)
    assert found["l1"] == pytest.approx(5 * 0.1, rel=1e-5)
    assert found["giou"] == pytest.approx(2 * 0.75, rel=1e-5)
    assert found["corners"] == 0


def test_the_last_layer_is_the_target_of_all_or_layers_pair():
    student = outputs([EVEN, EVEN], [0.2, 0.2])
    teacher = outputs([EVEN, SURE], [0.2, 0.4])
    final = losses(student, teacher, layers="final")
    assert final["class"] == pytest.approx(2 * KL, rel=1e-5)
    assert final["l1"] == pytest.approx(2 * 0.5, rel=1e-5)
    paired = losses(student, teacher, layers="paired")
    assert paired["class"] == pytest.approx(KL, rel=1e-5)
    assert paired["l1"] == pytest.approx(0.5, rel=1e-5)


def test_layers_do_not_pair_where_their_numbers_differ():
    student, teacher = outputs([EVEN], [0.2]), outputs([EVEN, SURE], [0.2, 0.4])
    assert losses(student, teacher, layers="paired") == losses(student, teacher, layers="final")


def test_the_weight_is_the_confidence_of_the_teachers_last_layer():
    """Summed over queries, a class term of 0.75 KL; box terms are means, and do not show it."""
    student, teacher = outputs([EVEN], [0.2]), outputs([SURE], [0.4])
    found = losses(student, teacher, class_norm="sum")
    assert found["class"] == pytest.approx(0.75 * KL, rel=1e-5)
    one = losses(student, teacher, class_norm="sum", query_weight="one")
    assert one["class"] == pytest.approx(KL, rel=1e-5)


def test_sure_queries_weigh_more():
    # weights 0.75 and 0.5; only the second box is wrong, by 0.1: 5 * 0.1 * 0.5 / 1.25
    logits = torch.tensor([[[SURE, EVEN]]])
    boxes = torch.full((1, 1, 2, 4), 0.5)
    wrong = boxes.clone()
    wrong[0, 0, 1] += 0.1
    student, teacher = (DetrOutputs(logits, b, torch.zeros(1, 2, 4)) for b in (wrong, boxes))
    assert losses(student, teacher)["l1"] == pytest.approx(0.2, rel=1e-5)


def test_corners_count_where_they_have_a_weight():
    student, teacher = outputs([EVEN, EVEN], [0.2, 0.2]), outputs([EVEN, EVEN], [0.2, 0.2])
    teacher.corners[1, ..., 0] = 5 * math.log(3)  # one edge of the last layer: (0.75, 0.25)
    kl = 25 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 4
    found = losses(student, teacher, corner_weight=1.5, layers="final")
    assert found["corners"] == pytest.approx(2 * 1.5 * kl, rel=1e-4)
    paired = losses(student, teacher, corner_weight=1.5, layers="paired")
    assert paired["corners"] == pytest.approx(1.5 * kl, rel=1e-4)


def test_slots_that_do_not_count_cost_nothing():
    student, teacher = outputs([EVEN], [0.2]), outputs([SURE], [0.4])
    assert set(losses(student, teacher, counts=False, corner_weight=1.0).values()) == {0}


def test_no_gradient_reaches_the_teacher():
    student, teacher = (outputs([z], [s]) for z, s in ((EVEN, 0.2), (SURE, 0.4)))
    tensors = [x.requires_grad_() for o in (student, teacher) for x in (o.logits, o.boxes)]
    found = decoder_losses(
        student, teacher, torch.ones(1, 1, dtype=torch.bool), DecoderLossSettings()
    )
    torch.stack([*found.values()]).sum().backward()
    assert [x.grad is not None for x in tensors] == [True, True, False, False]


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="temperature must be positive"):
        DecoderLossSettings(temperature=0.0)


def test_a_class_that_the_teacher_does_not_know_has_no_class_term():
    """The student's logit of it is free; its boxes are taught on."""
    student, teacher = outputs([EVEN], [0.2]), outputs([[SURE[0], -1e4]], [0.4])
    student = replace(student, logits=student.logits.requires_grad_())
    blind = replace(teacher, known=(0,))
    counted = torch.ones(1, 1, dtype=torch.bool)
    found = decoder_losses(student, blind, counted, DecoderLossSettings())
    assert found["class"].item() == pytest.approx(KL / 2, rel=1e-5)
    assert found["l1"].item() == pytest.approx(5 * 0.1, rel=1e-5)
    found["class"].backward()
    assert student.logits.grad is not None
    assert student.logits.grad[..., 0].item() != 0
    assert student.logits.grad[..., 1].item() == 0
