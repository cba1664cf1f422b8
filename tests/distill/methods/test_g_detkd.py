import math

import pytest
import torch

from edgedetr.distill.detectors import classifies_regions, detector
from edgedetr.distill.methods import supported_pairs
from edgedetr.distill.methods.g_detkd import (
    GDetKd,
    Settings,
    build,
    prediction_terms,
    transfer_head,
)
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch, RegionOutputs
from edgedetr.runtime.plugins import names

FAMILIES = names("edgedetr.distill.detectors")


@pytest.fixture
def make_pair(make_model):
    def make(family="faster_rcnn"):
        teacher = make_model("faster_rcnn", "edge-small", seed=1)
        teacher.network.requires_grad_(requires_grad=False)
        return make_model(family), teacher

    return make


def batch_of(student, teacher, images, targets):
    return Batch(images, targets, student.encode(images), TeacherMemory(teacher)(images))


def targets_on(student, images, make_targets):
    """Objects where the student has regions, so that some are positive."""
    found = student.regions(student.encode(images))
    boxes = [b[((b[:, 2:] - b[:, :2]) > 0.01).all(1)][:2] for b in found.boxes]
    return [
        make_targets(*torch.cat([(b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]], 1).tolist())
        for b in boxes
    ]


def test_any_student_of_a_two_stage_teacher_is_taken():
    teachers = [f for f in FAMILIES if classifies_regions(detector(f))]
    assert "faster_rcnn" in teachers
    assert supported_pairs("g_detkd") == [(s, t) for s in FAMILIES for t in teachers]


def answers(logits, deltas):
    logits, deltas = torch.tensor([logits]), torch.tensor([deltas])
    return RegionOutputs(torch.zeros(1, 1, 7, 7), logits, logits, deltas, deltas)


def test_the_prediction_terms_of_a_hand_worked_region():
    """The teacher says 1/4 background, 1/4 and 1/2; the student a third each.

    Its deltas are off by (1, 0, 0, 0) for the first class and (1, 2, 0, 0) for the second:
    |1/4 + 1/2| + |2/2| = 1.75.
    """
    zero = [0.0] * 4
    teacher = answers([0.0, 0.0, math.log(2)], [[1.0, 0, 0, 0], [1.0, 2, 0, 0]])
    classes, localization = prediction_terms(answers([0.0] * 3, [zero, zero]), teacher)
    expect = math.log(3) - 1.5 * math.log(2)  # cross entropy less entropy
    assert classes.item() == pytest.approx(expect)
    assert localization.item() == pytest.approx(1.75)
    same, _ = prediction_terms(teacher, teacher)
    assert same.item() == pytest.approx(0, abs=1e-6)


def test_a_student_takes_over_the_second_stage(make_pair):
    student, teacher = make_pair()
    build(Settings(), student, teacher)
    theirs = teacher.network.roi_heads.state_dict()
    for name, tensor in student.network.roi_heads.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_classes_in_another_order_are_not_taken_over(make_pair):
    student, teacher = make_pair()
    turned = teacher.with_classes(("Cyclist", "Car", "Pedestrian"))
    assert all("box_head" in name for name in transfer_head(student, turned))
    assert not torch.equal(
        student.network.roi_heads.box_predictor.cls_score.weight,
        teacher.network.roi_heads.box_predictor.cls_score.weight,
    )


def test_a_second_stage_of_other_shapes_is_left_as_it_is(make_pair):
    student, teacher = make_pair()
    teacher.network.roi_heads.box_head.fc7 = torch.nn.Linear(192, 100)
    teacher.network.roi_heads.box_predictor.cls_score = torch.nn.Linear(100, 4)
    before = {k: v.clone() for k, v in student.network.state_dict().items()}
    assert transfer_head(student, teacher) == []
    kept, _ = make_pair()
    assert all(torch.equal(v, before[k]) for k, v in student.network.state_dict().items())
    build(Settings(head_transfer=False), kept, make_pair()[1])
    assert all(torch.equal(v, before[k]) for k, v in kept.network.state_dict().items())


@pytest.mark.parametrize("family", ["faster_rcnn", "retinanet", "d_fine"])
def test_each_term_reaches_the_student_and_none_the_teacher(
    family, make_pair, make_targets, images
):
    student, teacher = make_pair(family)
    method = GDetKd(Settings(), student, teacher)
    batch = batch_of(student, teacher, images, targets_on(student, images, make_targets))
    terms = method(batch)
    assert tuple(terms) == method.terms
    levels = [t for t in batch.memory.tensors() if t.requires_grad]
    for name, value in terms.items():
        assert value.item() > 0, name
        gradients = torch.autograd.grad(value, levels, retain_graph=True, allow_unused=True)
        assert sum(g.abs().sum() for g in gradients if g is not None) > 0, name  # type: ignore[misc, redundant-expr]
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in teacher.network.parameters())
    for name, parameter in method.named_parameters():
        assert parameter.grad.abs().sum() > 0, name  # type: ignore[union-attr]


def test_only_a_two_stage_student_has_class_and_localization_terms(make_pair):
    kinds = {}
    for family in ("faster_rcnn", "retinanet", "fcos", "d_fine"):
        method = GDetKd(Settings(), *make_pair(family))
        kinds[family] = method.contrast.kinds
        assert ("class" in method.terms) == (family == "faster_rcnn"), family
    assert kinds == {"faster_rcnn": 1, "retinanet": 9, "fcos": 1, "d_fine": 1}


@pytest.mark.parametrize("family", ["faster_rcnn", "fcos", "rt_detr_v2"])
def test_batches_without_objects_or_regions_are_finite(family, make_pair, make_targets, images):
    student, teacher = make_pair(family)
    method = GDetKd(Settings(), student, teacher)
    everywhere = make_targets(ignored=[(0.5, 0.5, 1.0, 1.0)])
    for target, background in ((make_targets(), True), (everywhere, False)):
        terms = method(batch_of(student, teacher, images, [target] * 2))
        assert terms["contrast"].item() == 0
        assert (terms["features"].item() > 0) == background
        torch.stack(list(terms.values())).sum().backward()
    gradients = [p.grad for p in student.network.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)


def test_a_teachers_outputs_are_in_the_students_classes(make_pair, make_targets, images):
    student, teacher = make_pair()
    one = student.with_classes(("Pedestrian",))
    method = GDetKd(Settings(), one, teacher.with_classes(("Pedestrian",)))
    batch = batch_of(one, teacher, images, targets_on(student, images, make_targets))
    assert all(v.isfinite() for v in method(batch).values())


@pytest.mark.parametrize(("choice", "wrong"), [("temperature", 0.0), ("queue", 0), ("regions", 3)])
def test_settings_out_of_range_are_refused(choice, wrong):
    with pytest.raises(ValueError, match=choice):
        Settings(**{choice: wrong})
