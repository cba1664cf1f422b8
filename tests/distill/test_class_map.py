import math

import pytest
import torch

from edgedetr.distill.class_map import UNKNOWN, ClassMap, only_known, without_unknown


def test_several_sigmoids_are_the_probability_of_at_least_one():
    """Of 0.5 and 0.5 that is 0.75; of 0.9 and 0.2 it is 1 - 0.1 * 0.8 = 0.92."""
    logits = torch.tensor([[0.5, 0.5, 0.1], [0.9, 0.2, 0.3]]).logit()
    found = ClassMap(((0, 1), (2,)), 3).of_sigmoid(logits).sigmoid()
    torch.testing.assert_close(found, torch.tensor([[0.75, 0.1], [0.92, 0.3]]))
    far = torch.tensor([[-60.0, -60.0], [60.0, -60.0], [40.0, 40.0]])
    kept = ClassMap(((0, 1),), 2).of_sigmoid(far)[:, 0]
    torch.testing.assert_close(kept, torch.tensor([math.log(2) - 60, 60.0, 80.0]))


def test_the_union_of_sigmoids_has_finite_gradients():
    logits = torch.tensor([[-80.0, -200.0], [200.0, 0.0]], requires_grad=True)
    ClassMap(((0, 1),), 2).of_sigmoid(logits).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_classes_of_a_softmax_that_are_dropped_are_background():
    """Background .01, car .04 and truck .95: without trucks a car stays at .04."""
    logits = torch.tensor([[0.01, 0.04, 0.95]]).log()
    for groups, wanted in (
        (((0,),), [0.96, 0.04]),
        (((0, 1),), [0.01, 0.99]),
        (((1,), (0,)), [0.01, 0.95, 0.04]),
        (((1,), ()), [0.05, 0.95, 0.0]),
    ):
        found = ClassMap(groups, 2).of_softmax(logits).softmax(-1)
        torch.testing.assert_close(found, torch.tensor([wanted]))


def test_boxes_of_several_classes_are_their_mean_by_probability():
    """Car .2 and truck .6 are one to three: 0 and 4 become 3."""
    logits = torch.tensor([[0.2, 0.2, 0.6]]).log()
    boxes = torch.tensor([[[0.0] * 4, [4.0] * 4]])
    found = ClassMap(((0, 1), ()), 2).of_boxes(boxes, logits)
    torch.testing.assert_close(found, torch.tensor([[[3.0] * 4, [0.0] * 4]]))


def test_classes_that_a_teacher_does_not_know_count_as_background_on_both_sides():
    """Background .1, car .2, cyclist .7 of a student: without cyclists .8 and .2."""
    logits = torch.tensor([[0.1, 0.2, 0.7]]).log()
    torch.testing.assert_close(
        without_unknown(logits, (0,)).softmax(-1), torch.tensor([[0.8, 0.2]])
    )
    assert without_unknown(logits, None) is logits
    assert only_known(torch.tensor([[1.0, 2.0, 3.0]]), (0, 2)).tolist() == [[1.0, 3.0]]


def test_a_class_without_a_group_is_not_known():
    classes = ClassMap(((1,), (), (0, 2)), 3)
    assert classes.known == (0, 2)
    assert classes.firsts == (1, 0, 0)
    assert ClassMap(((1,), (0,)), 2).known is None
    assert classes.of_sigmoid(torch.zeros(3))[1] == UNKNOWN
    assert pytest.approx(0) == float(classes.of_sigmoid(torch.zeros(3)).sigmoid()[1])
