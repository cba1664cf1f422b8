"""KD-DETR of a query detector to a dense student: FCOS and RetinaNet."""

import math

import pytest
import torch

from edgedetr.distill.methods import kd_detr
from edgedetr.distill.methods.kd_detr import Settings
from edgedetr.distill.types import Batch, CellOutputs, DetrOutputs
from edgedetr.runtime.errors import SettingsError

DENSE = ("fcos", "retinanet")


def batch_of(student, teacher, images, targets):
    with torch.no_grad():
        theirs = teacher.encode(images)
    return Batch(images, targets, student.encode(images), theirs)


def answering(monkeypatch, pair, cells, box, asked=None):
    """Let a student give some cells and a teacher answer each query with .8, .1, .1 and a box."""

    def decode(_, memory, queries):
        if asked is not None:
            asked.append(queries)
        count = queries.boxes.shape[:2]
        logits = torch.tensor([0.8, 0.1, 0.1]).logit().expand(1, *count, -1)
        return DetrOutputs(logits, torch.tensor(box).expand(1, *count, -1), memory.tokens)

    monkeypatch.setattr(pair[0].module, "cell_outputs", lambda *_: cells)
    monkeypatch.setattr(pair[1].module, "decode", decode)


@pytest.mark.parametrize("family", DENSE)
def test_best_cells_are_in_order_and_have_a_gradient(family, make_model, images):
    model = make_model(family)
    pyramid = model.encode(images)
    found = model.cell_outputs(pyramid, 20)
    best = found.logits.amax(-1)
    assert found.boxes.shape == (2, 20, 4)
    assert (best[:, :-1] >= best[:, 1:]).all()
    gradients = torch.autograd.grad(found.logits.sum(), pyramid.levels, allow_unused=True)
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)


def test_a_cell_costs_what_bernoullis_and_boxes_differ_by(
    make_model, images, make_targets, monkeypatch
):
    """One cell of .5 where the teacher says .8 and nothing of a class that scores .1 with both.

    .8 ln(.8/.5) + .2 ln(.2/.5) = .1927; boxes agree but for a quarter in y: L1 is .25 / 4. Their
    IoU is .25 / .75 and they fill what encloses them: GIoU 1/3, loss 2/3.
    """
    student, teacher = make_model("fcos"), make_model("d_fine", "edge-small", seed=1)
    batch = batch_of(student, teacher, images[:1], [make_targets()])
    logits = torch.tensor([[[0.5, 0.1, 0.1]]]).logit()
    cells = CellOutputs(logits, torch.tensor([[[0.0, 0.0, 0.5, 0.5]]]))
    answering(monkeypatch, (student, teacher), cells, [0.25, 0.5, 0.5, 0.5])
    terms = kd_detr.build(Settings(l1_weight=1, giou_weight=1), student, teacher)(batch)
    wanted = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert terms["cell_class"].item() == pytest.approx(wanted, abs=1e-5)
    assert terms["cell_l1"].item() == pytest.approx(0.0625, abs=1e-6)
    assert terms["cell_giou"].item() == pytest.approx(2 / 3, abs=1e-5)


def test_duplicates_of_a_better_cell_are_not_asked(make_model, images, make_targets, monkeypatch):
    student, teacher = make_model("fcos"), make_model("d_fine", "edge-small", seed=1)
    batch = batch_of(student, teacher, images[:1], [make_targets()])
    boxes = [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.45], [0.5, 0.5, 1.0, 1.0]]
    logits = torch.tensor([[[2.0, 0, 0], [1.0, 0, 0], [0.5, 0, 0]]])
    asked: list[torch.Tensor] = []
    cells = CellOutputs(logits, torch.tensor([boxes]))
    answering(monkeypatch, (student, teacher), cells, [0.5, 0.5, 0.5, 0.5], asked)
    kd_detr.build(Settings(), student, teacher)(batch)
    wanted = torch.tensor([[[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5]]])
    torch.testing.assert_close(asked[0].boxes, wanted)  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", DENSE)
def test_settings_that_a_dense_student_has_no_use_for_are_refused(family, make_model):
    student, teacher = make_model(family), make_model("d_fine", "edge-small", seed=1)
    with pytest.raises(SettingsError, match=f"point_share is for .*; {family} has its own"):
        kd_detr.build(Settings(point_share=1.0), student, teacher)
    method = kd_detr.build(Settings(class_loss="softmax_kl", temperature=2.0), student, teacher)
    assert not list(method.parameters())


@pytest.mark.parametrize("family", DENSE)
def test_a_class_that_the_teacher_does_not_know_gets_no_class_gradient(
    family, make_model, images, targets
):
    """Its boxes teach on: only the class's own logit is left alone."""
    student, teacher = make_model(family), make_model("d_fine", "edge-small", seed=1)
    blind = teacher.with_classes(("Car", "Pedestrian", ()))
    batch = batch_of(student, blind, images, targets)
    terms = kd_detr.build(Settings(), student, blind)(batch)
    bias = student.network.head.classification_head.cls_logits.bias
    (gradient,) = torch.autograd.grad(terms["cell_class"], bias, retain_graph=True)
    by_class = gradient.view(-1, 3).abs().sum(0)
    assert by_class[0] > 0
    assert by_class[2] == 0
    assert terms["cell_giou"] > 0
