import math
from dataclasses import replace

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from edgedetr.distill.detectors import answers_regions, detector
from edgedetr.distill.losses.region_contrast import RegionContrast, info_nce
from edgedetr.distill.losses.region_pooling import region_features
from edgedetr.distill.losses.semantic_imitation import LOWEST_TAU, SemanticImitation
from edgedetr.distill.methods import supported_pairs
from edgedetr.distill.methods.g_detkd import (
    GDetKd,
    Settings,
    build,
    prediction_terms,
    transfer_head,
)
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch, RegionAnswers
from edgedetr.runtime.plugins import names

FAMILIES = names("edgedetr.distill.detectors")
BOXES = [torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.3, 0.2, 0.9, 0.9]]), torch.zeros(0, 4)]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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
    teachers = [f for f in FAMILIES if answers_regions(detector(f))]
    assert "faster_rcnn" in teachers
    assert supported_pairs("g_detkd") == [(s, t) for s in FAMILIES for t in teachers]


def test_level_weights_are_a_softmax_over_levels():
    """They add up to 1 for each region; over regions, each level's would."""
    torch.manual_seed(0)
    module = SemanticImitation(4, 8)
    weights = module.level_weights(noise(3, 5, 8, 7, 7), noise(5, 8, 7, 7, seed=1))
    torch.testing.assert_close(weights.sum(0), torch.ones(5))
    assert (weights.sum(1) - 1).abs().max() > 0.1


def test_level_weights_of_a_hand_worked_region():
    """Embeddings (0, 1) and (1, 1) against (1, 2) at tau 2: exp(2 / 2) to exp(3 / 2)."""
    module = SemanticImitation(2, 2)
    module.embed = torch.nn.Flatten()  # type: ignore[assignment]
    with torch.no_grad():
        module.raw_tau.copy_(torch.tensor(2 - LOWEST_TAU).expm1().log())
    pooled = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).reshape(2, 1, 2, 1, 1)
    weights = module.level_weights(pooled, torch.tensor([[1.0, 2.0]]).reshape(1, 2, 1, 1))
    one = 1 / (1 + math.exp(0.5))
    torch.testing.assert_close(weights, torch.tensor([[one], [1 - one]]))


def test_imitation_mixes_all_levels():
    """Levels of 1 and 3 everywhere, mixed 1 to 3, against 2: (2.5 - 2)^2."""
    module = SemanticImitation(1, 1)
    module.adapter = torch.nn.Identity()  # type: ignore[assignment]
    module.level_weights = lambda *_: torch.tensor([[0.25] * 2, [0.75] * 2])  # type: ignore[method-assign]
    levels = [torch.full((2, 1, 8, 12), 1.0), torch.full((2, 1, 4, 6), 3.0)]
    loss = module(levels, BOXES, torch.full((2, 1, 7, 7), 2.0))
    assert loss.item() == pytest.approx(0.25)


def test_adapting_before_pooling_is_adapting_after_it():
    module, level = SemanticImitation(4, 6), noise(2, 4, 8, 12)
    before = region_features(module.adapter(level), BOXES, 7)
    torch.testing.assert_close(before, module.adapter(region_features(level, BOXES, 7)))


def test_tau_is_one_at_first_and_stays_positive():
    module = SemanticImitation(4, 4)
    assert module.tau.item() == pytest.approx(1)
    with torch.no_grad():
        module.raw_tau.fill_(-100.0)
    assert module.tau.item() == pytest.approx(LOWEST_TAU)
    pooled, taught = noise(2, 3, 4, 7, 7), noise(3, 4, 7, 7, seed=1)
    assert module.level_weights(pooled, taught).isfinite().all()


def test_info_nce_of_a_hand_worked_row():
    """Own 1, negatives 0 and (left out) 5: log(1 + e^-1)."""
    scores = torch.tensor([[0.0, 1.0, 5.0]])
    left_out = torch.tensor([[False, False, True]])
    loss = info_nce(scores, torch.tensor([1]), left_out)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_the_positive_stays_in_the_denominator():
    """A region is alike to itself; left out of the sum, the loss would be negative."""
    scores = torch.tensor([[3.0, -1.0]])
    itself = torch.tensor([[True, False]])
    loss = info_nce(scores, torch.tensor([0]), itself)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-4)), rel=1e-4)
    alone = info_nce(scores, torch.tensor([0]), torch.tensor([[True, True]]))
    assert alone.item() == 0


def identity_contrast(length=4):
    module = RegionContrast(2, 2, 1, length)
    module.projection.weight.data = torch.eye(2)
    return module


def contrast(module, learnt, taught, positive=None, alike=None):
    positive = torch.ones(len(learnt), dtype=torch.bool) if positive is None else positive
    if alike is None:
        alike = torch.zeros(int(positive.sum()), len(learnt), dtype=torch.bool)
    kinds = torch.zeros(len(learnt), dtype=torch.long)
    return module((learnt, kinds), taught, positive, alike, 0.5)


def test_contrast_of_two_hand_worked_regions():
    """Cosines 1 to their own and 0 to the other, temperature 0.5; only the first learns."""
    learnt, taught = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    positive = torch.tensor([True, False])
    loss = contrast(identity_contrast(), learnt, taught, positive)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_the_queue_adds_negatives_and_is_of_the_batches_before():
    module, axes = identity_contrast(), torch.eye(2)
    first = contrast(module, axes, axes)
    assert first.item() == pytest.approx(math.log(1 + math.exp(-2)))
    second = contrast(module, axes, axes)  # the queue holds both axes: 2 + 2 candidates
    assert second.item() == pytest.approx(math.log(2 + 2 * math.exp(-2)), rel=1e-5)


def test_the_queue_forgets_the_oldest_and_is_state():
    module = identity_contrast(length=3)
    for value in (1.0, 2.0):
        contrast(module, torch.eye(2), torch.tensor([[1.0, 0.0], [value, 1.0]]))
    assert module.filled.item() == 3
    assert module.place.item() == 1
    expect = torch.nn.functional.normalize(torch.tensor([[2.0, 1], [1, 1], [1, 0]]), dim=1)
    torch.testing.assert_close(module.queue, expect)
    resumed = identity_contrast(length=3)
    resumed.load_state_dict(module.state_dict())
    one, two = (contrast(m, torch.eye(2), torch.eye(2)) for m in (module, resumed))
    assert one.item() == two.item()
    assert torch.equal(module.queue, resumed.queue)


def test_more_regions_than_the_queue_holds_fill_it():
    module = identity_contrast(length=2)
    contrast(module, noise(5, 2), noise(5, 2))
    assert module.filled.item() == 2
    assert (module.queue.norm(dim=1) - 1).abs().max() < 1e-6


def test_evaluation_leaves_the_queue_alone():
    module = identity_contrast().eval()
    contrast(module, torch.eye(2), torch.eye(2))
    assert module.filled.item() == 0


def test_each_anchor_kind_has_a_projection_of_its_own():
    module = RegionContrast(2, 3, 4, 8)
    embeddings = noise(1, 2).repeat(4, 1)
    projected = module.projected(embeddings, torch.arange(4))
    for kind in range(4):
        layer = module.projection.weight[3 * kind : 3 * kind + 3]
        expect = torch.nn.functional.normalize(layer @ embeddings[0], dim=0)
        torch.testing.assert_close(projected[kind], expect)


def answers(logits, deltas):
    logits, deltas = torch.tensor([logits]), torch.tensor([deltas])
    return RegionAnswers(torch.zeros(1, 1, 7, 7), logits, logits, deltas, deltas)


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


def test_only_a_two_stage_student_is_told_classes_and_boxes(make_pair):
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


def test_teachers_of_other_classes_answer_in_the_students(make_pair, make_targets, images):
    student, teacher = make_pair()
    one = replace(student, class_order=(1,))
    method = GDetKd(Settings(), one, teacher.with_classes(("Pedestrian",)))
    batch = batch_of(one, teacher, images, targets_on(student, images, make_targets))
    assert all(v.isfinite() for v in method(batch).values())


@pytest.mark.parametrize(("choice", "wrong"), [("temperature", 0.0), ("queue", 0), ("regions", 3)])
def test_settings_out_of_range_are_refused(choice, wrong):
    with pytest.raises(ValueError, match=choice):
        Settings(**{choice: wrong})


def test_a_student_of_the_teachers_level_has_nothing_to_learn_from_its_regions():
    """Both pool at the same places; on a ramp one point of a bin says what four do."""
    level = torch.arange(16.0).repeat(16, 1)[None, None]
    boxes = torch.tensor([[0.1, 0.2, 0.7, 0.9]])
    taught = MultiScaleRoIAlign(["level"], 7, 2)({"level": level}, [boxes * 64], [(64, 64)])
    module = SemanticImitation(1, 1)
    with torch.no_grad():
        for parameter, value in zip(module.adapter.parameters(), (1, 0), strict=True):
            parameter.fill_(value)
    loss = module([level], [boxes], taught)
    assert loss.item() == pytest.approx(0, abs=1e-6)
