import math

import pytest
import torch

from edgedetr.distill.losses.logit_losses import (
    ClassLoss,
    class_divergence,
    corner_loss,
    exclusive_divergence,
    exclusive_probabilities,
    query_losses,
)


def test_bernoulli_kl_of_a_hand_worked_case():
    # teacher 0.75, student 0.5: 0.75 ln(0.75/0.5) + 0.25 ln(0.25/0.5), once a class
    teacher = torch.full((1, 2), math.log(3.0))
    loss = class_divergence(torch.zeros(1, 2), teacher, ClassLoss("bernoulli_kl"))
    assert loss.item() == pytest.approx(2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), abs=1e-6)


def test_softmax_kl_of_a_hand_worked_case_is_the_mean_over_classes():
    teacher = torch.log(torch.tensor([[0.75, 0.25]]))
    loss = class_divergence(torch.zeros(1, 2), teacher, ClassLoss("softmax_kl"))
    assert loss.item() == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2, abs=1e-6)


def test_temperature_softens_and_scales_back():
    teacher, student = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, 0.5]])
    warm = class_divergence(student, teacher, ClassLoss("softmax_kl", temperature=4.0))
    p, q = (torch.softmax(x / 4, -1) for x in (teacher, student))
    assert warm.item() == pytest.approx(16 * (p * (p / q).log()).mean().item(), abs=1e-6)


def test_only_bernoulli_kl_sees_a_constant_added_to_all_logits():
    z = torch.tensor([[1.0, -2.0, 0.5]])
    assert class_divergence(z + 3, z, ClassLoss("softmax_kl")).item() == pytest.approx(0, abs=1e-5)
    assert class_divergence(z + 3, z, ClassLoss("bernoulli_kl")).item() > 1


@pytest.mark.parametrize("kind", ["bernoulli_kl", "softmax_kl"])
def test_every_term_gives_the_student_gradient(kind):
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.4, 0.4, 0.1, 0.1]]], requires_grad=True)
    teacher = torch.tensor([[[2.0, -1, 0.5], [0.5, 1, -2.0]]])
    terms = query_losses(
        logits, boxes, teacher, boxes.detach() + 0.05, torch.ones(1, 2), ClassLoss(kind)
    )
    terms["class"].backward(retain_graph=True)
    assert logits.grad is not None
    assert logits.grad.abs().min() > 0
    for name in ("l1", "giou"):
        boxes.grad = None
        terms[name].backward(retain_graph=True)
        assert boxes.grad is not None
        assert boxes.grad.abs().sum() > 0, name


def test_weights_average_the_boxes_and_zero_leaves_a_slot_out():
    # errors 0.1 and 0.3 in every coordinate, weights 3 and 1: (3*0.1 + 0.3) / 4 = 0.15
    teacher = torch.full((1, 3, 4), 0.5)
    boxes = teacher + torch.tensor([0.1, 0.3, 0.4]).reshape(1, 3, 1)
    logits = torch.zeros(1, 3, 2)
    terms = query_losses(
        logits, boxes, logits, teacher, torch.tensor([[3.0, 1.0, 0.0]]), ClassLoss()
    )
    assert terms["l1"].item() == pytest.approx(0.15, abs=1e-6)


def test_sum_norm_grows_with_the_queries_and_weights_norm_does_not():
    student, teacher = torch.zeros(1, 1, 2), torch.ones(1, 1, 2)
    box = torch.full((1, 1, 4), 0.5)

    def loss(norm, count):
        z, b, target, c = (x.repeat(1, count, 1) for x in (student, box, teacher, box))
        weights = torch.ones(1, count)
        return query_losses(z, b, target, c, weights, ClassLoss(norm=norm))["class"].item()

    assert loss("sum", 4) == pytest.approx(4 * loss("sum", 1))
    assert loss("weights", 4) == pytest.approx(loss("weights", 1))


def test_no_query_with_weight_costs_nothing():
    box, logits = torch.full((2, 1, 4), 0.5), torch.zeros(2, 1, 3, requires_grad=True)
    terms = query_losses(logits, box, logits.detach(), box, torch.zeros(2, 1), ClassLoss())
    assert [v.item() for v in terms.values()] == [0, 0, 0]
    torch.stack(list(terms.values())).sum().backward()


def test_the_corner_loss_of_a_hand_worked_case():
    # two bins, logits over 5: teacher (0.75, 0.25), student even, on one of four edges
    teacher = torch.zeros(1, 2, 8)
    teacher[0, 0, 2] = 5 * math.log(3)
    student = torch.zeros(1, 2, 8)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    alone = corner_loss(student, teacher, torch.tensor([[0.5, 0.0]]))
    assert alone.item() == pytest.approx(25 * kl / 4, rel=1e-5)
    shared = corner_loss(student, teacher, torch.tensor([[0.5, 1.5]]))
    assert shared.item() == pytest.approx(25 * kl / 16, rel=1e-5)
    assert corner_loss(teacher, teacher, torch.ones(1, 2)).item() == pytest.approx(0, abs=1e-6)
    assert corner_loss(student, teacher, torch.zeros(1, 2)).item() == 0


def test_corner_logits_of_an_edge_may_share_a_constant():
    teacher = torch.randn(1, 3, 4, 9, generator=torch.Generator().manual_seed(0))
    shifted = (teacher + torch.tensor([1.0, -2.0, 3.0, 0.0])[:, None]).flatten(2)
    loss = corner_loss(shifted, teacher.flatten(2), torch.ones(1, 3))
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_the_corner_loss_trains_the_student_and_not_the_teacher():
    """The gradient of KL(teacher || student) at a logit is softmax(student) - softmax(teacher)."""
    teacher = torch.randn(1, 1, 16, generator=torch.Generator().manual_seed(0))
    student = torch.zeros(1, 1, 16, requires_grad=True)
    corner_loss(student, teacher, torch.ones(1, 1)).backward()
    assert student.grad is not None
    wanted = 0.25 - (teacher.reshape(4, 4) / 5).softmax(-1)
    torch.testing.assert_close(student.grad.reshape(4, 4), wanted * 5 / 4)


def test_sigmoids_become_probabilities_that_sum_to_one():
    # scores 0.6 and 0.2: background 0.4, and 0.6 shared 3 to 1
    logits = torch.logit(torch.tensor([[0.6, 0.2], [0.9, 1e-9], [1e-30, 1e-30]]))
    found = exclusive_probabilities(logits)
    wanted = torch.tensor([[0.4, 0.45, 0.15], [0.1, 0.9, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def test_a_softmax_head_can_agree_with_any_sigmoid_teacher():
    teacher = 4 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    agreeing = exclusive_probabilities(teacher).log() + 2.5
    torch.testing.assert_close(
        exclusive_divergence(agreeing, teacher), torch.zeros(50), atol=1e-5, rtol=0
    )
    assert exclusive_divergence(agreeing + torch.randn(50, 4), teacher).min() > 0


def test_exclusive_divergence_of_a_hand_worked_case():
    # target (0.4, 0.45, 0.15), student even over three
    teacher = torch.logit(torch.tensor([[0.6, 0.2]]))
    student = torch.zeros(1, 3, requires_grad=True)
    loss = exclusive_divergence(student, teacher)
    wanted = sum(p * math.log(3 * p) for p in (0.4, 0.45, 0.15))
    assert loss.item() == pytest.approx(wanted, abs=1e-6)
    loss.backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, 1 / 3 - torch.tensor([[0.4, 0.45, 0.15]]))
