from dataclasses import replace

import pytest
import torch

from edgedetr.distill.detectors import deformable_detr
from edgedetr.distill.types import LossTerm, Queries
from edgedetr.runtime.errors import UsageError

TINY = deformable_detr.PRESETS["edge-tiny"]
BOXES = torch.tensor([[[0.2, 0.3, 0.2, 0.2], [0.6, 0.5, 0.3, 0.4], [0.8, 0.8, 0.1, 0.2]]] * 2)
LABELS = torch.tensor([[0, 1, 2]] * 2)


@pytest.fixture
def make(make_model, monkeypatch):
    """Makes a small model, single- or two-stage."""
    monkeypatch.setitem(deformable_detr.PRESETS, "two-stage", replace(TINY, two_stage=True))

    def build(*, two_stage):
        return make_model("deformable_detr", "two-stage" if two_stage else "edge-tiny")

    return build


def queries_of(model, boxes=BOXES, groups=1):
    content = model.label_content(LABELS, boxes)
    return Queries(content, boxes, torch.ones(boxes.shape[:2], dtype=torch.bool), groups)


@pytest.mark.parametrize(("preset", "published"), [("r50", 41), ("r50-two-stage", 41)])
def test_the_presets_have_the_published_sizes(preset, published):
    with torch.device("meta"):
        network = deformable_detr.build(preset, 91)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions == pytest.approx(published, rel=0.01)


def test_a_fresh_model_predicts_its_references_and_the_prior(images):
    """The references lie all over the image; transformers' start would leave them in its middle."""
    torch.manual_seed(0)
    network = deformable_detr.build("edge-tiny", 3).eval()
    with torch.no_grad():
        references = deformable_detr.encode(network, images).own.boxes
        logits, boxes = deformable_detr.predict(network, images)
    torch.testing.assert_close(boxes, references, atol=1e-4, rtol=1e-4)
    assert references[0, :, :2].std(0).min() > 0.15
    assert logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.5)


@pytest.mark.parametrize("two_stage", [False, True])
def test_predictions_are_those_of_transformers(make, images, two_stage):
    model = make(two_stage=two_stage)
    with torch.no_grad():
        expected = model.network(pixel_values=images)
        logits, boxes = model.predict(images)
        memory = model.encode(images)
        own = model.decode(memory, memory.own)
    for found in ((logits, boxes), (own.logits[-1], own.boxes[-1])):
        torch.testing.assert_close(found[0], expected.logits)
        torch.testing.assert_close(found[1], expected.pred_boxes, atol=1e-5, rtol=1e-4)


def test_a_single_stage_model_refers_to_points(make, images):
    """The size of an external box changes nothing, its centre does."""
    model = make(two_stage=False)
    memory = model.encode(images)
    queries = queries_of(model)
    wide = replace(queries, boxes=BOXES * torch.tensor([1, 1, 2, 0.5]))
    moved = replace(queries, boxes=BOXES + torch.tensor([0.1, 0, 0, 0]))
    with torch.no_grad():
        plain, wide, moved = (model.decode(memory, q).boxes for q in (queries, wide, moved))
    assert torch.equal(plain, wide)
    assert (plain - moved).abs().max() > 0.01


def test_an_external_query_takes_after_the_learned_query_that_is_nearest(make, images):
    model = make(two_stage=False)
    own = model.encode(images).own
    asked = torch.cat([own.boxes[:, [7, 3], :2] + 1e-4, torch.rand(2, 2, 2)], -1)
    content = model.label_content(torch.tensor([[0, 2]] * 2), asked)
    assert torch.equal(content, own.content[:, [7, 3]])
    assert not content.requires_grad


def test_a_two_stage_model_derives_content_from_the_box(make, images):
    model = make(two_stage=True)
    own = model.encode(images).own
    other = torch.zeros(own.boxes.shape[:2], dtype=torch.long)
    torch.testing.assert_close(
        model.label_content(other, own.boxes), own.content, atol=1e-3, rtol=1e-3
    )
    assert (queries_of(model).content[0, 0] - queries_of(model).content[0, 1]).abs().max() > 0.1


def test_the_queries_of_a_two_stage_model_are_its_best_cells(make, images):
    model = make(two_stage=True)
    with torch.no_grad():
        outputs = model.network.model(pixel_values=images)
        own = model.encode(images).own
    scores = outputs.enc_outputs_class[..., 0]
    for row in range(2):
        best = sorted(range(scores.shape[1]), key=lambda c: -scores[row, c].item())[:40]
        boxes = outputs.enc_outputs_coord_logits[row, best].sigmoid()
        torch.testing.assert_close(own.boxes[row], boxes)


def test_groups_of_a_two_stage_model_do_not_see_one_another(make, images):
    model = make(two_stage=True)
    memory = model.encode(images)
    both = torch.cat([BOXES, BOXES.flip(1)], 1)
    content = model.label_content(LABELS.repeat(1, 2), both)
    valid = torch.ones(2, 6, dtype=torch.bool)
    with torch.no_grad():
        alone = model.decode(memory, queries_of(model))
        beside = model.decode(memory, Queries(content, both, valid, 2))
    torch.testing.assert_close(alone.logits, beside.logits[:, :, :3], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("two_stage", [False, True])
def test_each_layer_corrects_the_box_before_and_trains_itself_alone(make, images, two_stage):
    model = make(two_stage=two_stage)
    heads = model.network.bbox_embed
    answers = model.decode(model.encode(images), queries_of(model))
    correction = heads[1](answers.hidden)
    expected = (torch.logit(answers.boxes[0]) + correction).sigmoid()
    torch.testing.assert_close(answers.boxes[1], expected)
    answers.boxes[1].sum().backward()
    assert heads[0].layers[-1].weight.grad.abs().sum() == 0
    assert heads[1].layers[-1].weight.grad.abs().sum() > 0


def test_a_two_stage_model_learns_all_over(make, images, targets):
    model = make(two_stage=True)
    model.network.train()
    losses, _ = model.training_pass(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    assert not [n for n, p in model.network.named_parameters() if p.grad is None]
    kinds = ("loss_ce", "loss_bbox", "loss_giou")
    names = {f"{kind}{end}" for kind in kinds for end in ("", "_0", "_encoder")}
    assert {term.log_name for term in losses} == names


def test_the_targets_of_encoder_cells_have_no_class(make, images, targets):
    model = make(two_stage=True)
    other = [replace(t, labels=2 - t.labels) for t in targets]
    with torch.no_grad():
        one, two = (model.training_pass(images, t)[0] for t in (targets, other))
    encoder, last = (LossTerm("loss_ce", part=p, apart=True) for p in ("encoder", "decoder"))
    assert one[encoder] == two[encoder]
    assert one[last] != two[last]


def test_the_grid_of_stride_64_rounds_up(make_model, monkeypatch, images, targets):
    monkeypatch.setitem(deformable_detr.PRESETS, "four-levels", replace(TINY, levels=4))
    model = make_model("deformable_detr", "four-levels")
    model.network.train()
    losses, memory = model.training_pass(images, targets)
    assert memory.spatial_shapes == ((8, 12), (4, 6), (2, 3), (1, 2))
    assert [level.shape[2:] for level in memory.levels] == [*memory.spatial_shapes]
    assert all(v.isfinite() for v in losses.values())


def test_an_input_with_too_few_cells_is_refused(make):
    model = make(two_stage=True)
    with pytest.raises(UsageError, match=r"its 40 queries among .* input has 21; choose a larger"):
        model.encode(torch.zeros(1, 3, 32, 32))
