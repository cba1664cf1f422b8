import math

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou

from edgedetr.distill.detectors import classifies_regions, decodes_queries, detector
from edgedetr.distill.losses.distillation_points import shared_outputs, teacher_queries
from edgedetr.distill.methods import kd_detr, supported_pairs
from edgedetr.distill.methods.kd_detr import (
    Settings,
    TeacherOutputs,
    proposal_losses,
    proposal_queries,
)
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch, RegionOutputs, Regions
from edgedetr.runtime.errors import SettingsError
from edgedetr.runtime.plugins import names

FAMILIES = names("edgedetr.distill.detectors")
QUERY_FAMILIES = [f for f in FAMILIES if decodes_queries(detector(f))]
REGION_FAMILIES = [f for f in FAMILIES if classifies_regions(detector(f))]
PROPOSAL_TERMS = ("proposal_class", "proposal_l1", "proposal_giou")


def batch_of(student, teacher, images, targets):
    return Batch(images, targets, student.encode(images), TeacherMemory(teacher)(images))


@pytest.fixture
def pair(make_model):
    return make_model(), make_model(preset="edge-small", seed=1)


def test_the_papers_literal_loss_written_out(pair, images, targets):
    """Softmax divergence at T = 10, mean over classes, summed over queries; boxes by weight."""
    student, teacher = pair
    settings = Settings(
        class_loss="softmax_kl",
        class_norm="sum",
        temperature=10.0,
        point_share=1.0,
        general_weight=0.0,
    )
    batch = batch_of(student, teacher, images, targets)
    with torch.no_grad():
        terms = kd_detr.build(settings, student, teacher)(batch)
        (answer,) = shared_outputs([teacher_queries(batch.teacher_memory)], student, teacher, batch)
    z, b = answer.teacher.logits[-1].flatten(0, 1), answer.teacher.boxes[-1].flatten(0, 1)
    w = z.sigmoid().max(-1).values
    cls = l1 = giou = 0.0
    for zs, bs in zip(answer.student.logits, answer.student.boxes, strict=True):
        p, q = ((x / 10).softmax(-1) for x in (z, zs.flatten(0, 1)))
        cls += (w * 100 * (p * (p / q).log()).mean(-1)).sum()  # type: ignore[assignment]
        mine = bs.flatten(0, 1)
        l1 += (w * (mine - b).abs().mean(-1)).sum() / w.sum()
        overlap = generalized_box_iou(*(box_convert(x, "cxcywh", "xyxy") for x in (mine, b)))
        giou += (w * (1 - overlap.diag())).sum() / w.sum()
    assert terms["specific_class"].item() == pytest.approx(cls.item(), rel=1e-3)  # type: ignore[attr-defined]
    assert terms["specific_l1"].item() == pytest.approx(5 * l1.item(), rel=1e-4)  # type: ignore[attr-defined]
    assert terms["specific_giou"].item() == pytest.approx(2 * giou.item(), rel=1e-4)  # type: ignore[attr-defined]


def test_the_last_layer_of_an_equal_student_costs_nothing_and_earlier_ones_do(
    make_model, images, targets
):
    student, teacher = make_model(), make_model()
    batch = batch_of(student, teacher, images, targets)
    paired, final = (
        kd_detr.build(Settings(layers=layers, point_share=1.0), student, teacher)(batch)[
            "specific_l1"
        ].item()
        for layers in ("paired", "final")
    )
    assert paired == pytest.approx(0, abs=1e-6)
    assert final > 1e-4


def test_points_are_new_at_each_step_and_a_seed_repeats_them(pair, images, targets):
    method = kd_detr.build(Settings(), *pair)
    batch = batch_of(*pair, images, targets)  # type: ignore[call-arg]

    def steps():
        torch.manual_seed(0)
        with torch.no_grad():
            return [method(batch) for _ in range(2)]

    (one, two), (again, _) = steps(), steps()
    for name in ("general_l1", "specific_l1"):
        assert one[name].item() != two[name].item()
        assert one[name].item() == again[name].item()


@pytest.fixture
def asked(monkeypatch):
    """The numbers of slots and groups that the decoders of D-FINE are asked."""
    calls, real = [], detector("d_fine").decode  # type: ignore[attr-defined]

    def decode(model, memory, queries):
        calls.append((queries.boxes.shape[1], queries.groups))
        return real(model, memory, queries)

    monkeypatch.setattr(detector("d_fine"), "decode", decode)
    return calls


def test_both_sets_of_points_share_one_decoder_call_of_each_model(pair, asked, images, targets):
    batch = batch_of(*pair, images, targets)  # type: ignore[call-arg]
    assert batch.teacher_memory.own.boxes.shape[1] == 60
    kd_detr.build(Settings(), *pair)(batch)
    assert asked == [(2 * 21, 2)] * 2


def test_points_without_weight_are_not_decoded(pair, asked, images, targets):
    settings = Settings(specific_weight=0.0, point_share=1.0)
    terms = kd_detr.build(settings, *pair)(batch_of(*pair, images, targets))  # type: ignore[call-arg]
    assert asked == [(60, 1)] * 2
    assert {v.item() for k, v in terms.items() if k.startswith("specific")} == {0}
    assert terms["general_class"] > 0


def test_weights_scale_their_points(pair, images, targets):
    batch = batch_of(*pair, images, targets)  # type: ignore[call-arg]
    found = []
    for settings in (Settings(), Settings(specific_weight=2.0, general_weight=3.0)):
        torch.manual_seed(0)
        found.append(kd_detr.build(settings, *pair)(batch))
    for name, value in found[0].items():
        factor = 2 if name.startswith("specific") else 3
        assert found[1][name].item() == pytest.approx(factor * value.item(), rel=1e-4)


def test_it_takes_query_teachers_of_every_student():
    wanted = {(s, t) for s in FAMILIES for t in QUERY_FAMILIES}
    assert set(supported_pairs("kd_detr")) == wanted


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_of_points_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="point_share must lie in"):
        Settings(point_share=share)


def test_a_two_stage_output_of_a_hand_worked_case():
    """Scores (0.6, 0.2) become (0.4, 0.45, 0.15); the best class's box of 0.2 is to be 0.4 wide."""
    logits = torch.logit(torch.tensor([[0.6, 0.2], [0.9, 0.1]]))
    boxes = torch.tensor([[[0.4, 0.4, 0.6, 0.6], [0.0, 0.0, 0.1, 0.1]]]).repeat(2, 1, 1)
    nothing = torch.zeros(0)
    answers = RegionOutputs(nothing, nothing, torch.zeros(2, 3), nothing, boxes)
    teacher = torch.tensor([[0.5, 0.5, 0.4, 0.4]]).repeat(2, 1)
    terms = proposal_losses(answers, TeacherOutputs(logits, teacher), torch.tensor([0.6, 0.0]))
    divergence = sum(p * math.log(3 * p) for p in (0.4, 0.45, 0.15))
    assert terms["class"].item() == pytest.approx(divergence, rel=1e-5)
    assert terms["l1"].item() == pytest.approx(0.1, rel=1e-5)
    assert terms["giou"].item() == pytest.approx(0.75, rel=1e-5)
    total = proposal_losses(
        answers, TeacherOutputs(logits, teacher), torch.tensor([0.6, 0.0]), "sum"
    )
    assert total["class"].item() == pytest.approx(0.6 * divergence, rel=1e-5)


def test_an_agreeing_two_stage_head_costs_nothing():
    # background 0.3, classes 0.7 and 0.7 * 0.2 / 0.9 apart, and the best class's box
    logits = torch.logit(torch.tensor([[0.2, 0.7]]))
    agreeing = torch.tensor([[0.3, 0.7 * 0.2 / 0.9, 0.7 * 0.7 / 0.9]]).log()
    boxes = torch.tensor([[[0.0, 0.0, 0.1, 0.1], [0.3, 0.3, 0.7, 0.7]]])
    answers = RegionOutputs(boxes, boxes, agreeing, boxes, boxes)
    terms = proposal_losses(
        answers, TeacherOutputs(logits, torch.tensor([[0.5, 0.5, 0.4, 0.4]])), torch.ones(1)
    )
    assert all(abs(v.item()) < 1e-6 for v in terms.values())


def test_proposals_become_queries_of_no_class():
    queries = proposal_queries([torch.tensor([[0.1, 0.2, 0.5, 0.4]]), torch.zeros(0, 4)])
    torch.testing.assert_close(queries.boxes[0], torch.tensor([[0.3, 0.3, 0.4, 0.2]]))
    assert queries.valid.tolist() == [[True], [False]]
    assert queries.labels is None
    assert proposal_queries([torch.zeros(0, 4)] * 2).valid.tolist() == [[False]] * 2


@pytest.mark.parametrize("family", REGION_FAMILIES)
def test_a_two_stage_student_learns_from_each_term(family, make_model, images, targets):
    student, teacher = make_model(family), make_model("d_fine", "edge-small", seed=1)
    method = kd_detr.build(Settings(), student, teacher)
    batch = batch_of(student, teacher, images, targets)
    for level in batch.memory.levels:
        level.retain_grad()
    terms = method(batch)
    assert tuple(terms) == method.terms == PROPOSAL_TERMS
    for name, value in terms.items():
        for level in batch.memory.levels:
            level.grad = None
        value.backward(retain_graph=True)
        grads = [level.grad for level in batch.memory.levels if level.grad is not None]
        assert sum(g.abs().sum() for g in grads) > 0, name
    assert all(p.grad is None for p in teacher.network.parameters())
    assert not list(method.parameters())


@pytest.mark.parametrize("family", REGION_FAMILIES)
def test_at_most_300_proposals_are_decoded_and_gradient_does_not_reach_them(
    family, make_model, images, targets, asked, monkeypatch
):
    student, teacher = make_model(family), make_model("d_fine", "edge-small", seed=1)
    many = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) / 2
    boxes = torch.cat([many, many + 0.3], 1).requires_grad_()

    found = Regions((boxes, boxes[:5]), torch.zeros(405, 1), torch.zeros(405))
    monkeypatch.setattr(student.module, "regions", lambda *_: found)
    batch = batch_of(student, teacher, images, targets)
    terms = kd_detr.build(Settings(), student, teacher)(batch)
    assert asked == [(300, 1)]
    torch.stack([*terms.values()]).sum().backward()
    assert boxes.grad is None


@pytest.mark.parametrize("family", REGION_FAMILIES)
def test_proposals_in_ignored_areas_and_no_proposals_cost_nothing(
    family, make_model, make_targets, images, monkeypatch
):
    student, teacher = make_model(family), make_model("d_fine", "edge-small", seed=1)
    method = kd_detr.build(Settings(), student, teacher)
    everywhere = make_targets(ignored=[(0.5, 0.5, 4.0, 4.0)])
    ignored = method(batch_of(student, teacher, images, [everywhere] * 2))
    nothing = Regions((torch.zeros(0, 4),) * 2, torch.zeros(0, 1), torch.zeros(0))
    monkeypatch.setattr(student.module, "regions", lambda *_: nothing)
    none = method(batch_of(student, teacher, images, [make_targets()] * 2))
    for terms in (ignored, none):
        assert [v.item() for v in terms.values()] == [0, 0, 0]
        torch.stack([*terms.values()]).sum().backward()


@pytest.mark.parametrize("family", REGION_FAMILIES)
@pytest.mark.parametrize(
    "choice", [{"class_loss": "softmax_kl"}, {"layers": "paired"}, {"point_share": 1.0}]
)
def test_settings_that_a_two_stage_student_has_no_use_for_are_refused(family, choice, make_model):
    with pytest.raises(
        SettingsError, match=f"{next(iter(choice))} is for students that decode queries"
    ):
        kd_detr.build(Settings(**choice), make_model(family), make_model())
