import math
from dataclasses import replace

import pytest
import torch

from edgedetr.distill.detectors import dino
from edgedetr.distill.networks.decoder_hook import decoder_call
from edgedetr.distill.types import LossTerm

KINDS = ("loss_ce", "loss_bbox", "loss_giou")
SMALL_OBJECTS = (0.4, 0.5, 0.1, 0.2), (0.6, 0.5, 0.2, 0.1)


def edges(boxes):
    """Left, top, right and bottom of cxcywh."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


@pytest.fixture
def model(make_model):
    return make_model("dino")


@pytest.fixture
def noiseless(monkeypatch):
    monkeypatch.setattr(dino, "LABEL_NOISE", 0.0)
    monkeypatch.setattr(dino, "BOX_NOISE", 1e-6)


def denoising(model, targets):
    noisy = dino.denoising_queries(model.network, targets)
    assert noisy is not None
    return noisy


def test_the_preset_has_the_published_size():
    with torch.device("meta"):
        network = dino.build("r50", 91)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(47, rel=0.01)


def test_queries_are_the_best_cells_with_learned_content(model, images):
    memory = model.encode(images)
    network = model.network
    cells, anchors = network.model.gen_encoder_output_proposals(
        memory.tokens, ~memory.mask, memory.spatial_shapes
    )
    scores = network.class_embed(cells).amax(-1)
    boxes = (network.bbox_embed(cells) + anchors).sigmoid()
    for row in range(2):
        best = sorted(range(scores.shape[1]), key=lambda c: -scores[row, c].item())[:40]
        torch.testing.assert_close(memory.own.boxes[row], boxes[row, best])
        assert torch.equal(memory.own.content[row], network.tgt_embed.weight)
    assert not memory.own.boxes.requires_grad


def test_boxes_alone_place_a_query(model, images):
    """Each layer embeds the box anew: the same content elsewhere is another query."""
    memory = model.encode(images)
    own = memory.own
    moved = replace(own, boxes=own.boxes.flip(1))
    with torch.no_grad():
        plain, other = model.decode(memory, own).logits, model.decode(memory, moved).logits
    assert (plain - other).abs().max() > 1e-3


def test_classes_are_rows_of_the_denoising_table(model):
    content = model.label_content(torch.tensor([[2, 0]]), torch.zeros(1, 2, 4))
    torch.testing.assert_close(content[0], model.network.label_enc.weight[[2, 0]])
    assert not content.requires_grad


def test_places_get_the_learned_content_in_turn(model, images):
    memory = model.encode(images)
    content = model.place_content(memory, torch.rand(2, 42, 4))
    learned = memory.own.content
    assert torch.equal(content, torch.cat([learned, learned[:, :2]], 1))
    assert not content.requires_grad


@pytest.mark.usefixtures("noiseless")
def test_denoising_queries_by_hand(model, targets):
    """20 pairs for at most two objects: ten groups of two positives and two negatives."""
    noisy = denoising(model, targets)
    queries = noisy.queries
    assert (queries.groups, queries.boxes.shape) == (10, (2, 40, 4))
    assert queries.valid[0].all()
    assert queries.valid[1].tolist() == [True, False] * 20
    assert noisy.matches[0][0].tolist() == [4 * g + i for g in range(10) for i in (0, 1)]
    assert noisy.matches[1][0].tolist() == [4 * g for g in range(10)]
    for row, (slots, objects) in enumerate(noisy.matches):
        truth = noisy.objects[row]
        torch.testing.assert_close(
            queries.boxes[row, slots], truth.boxes[objects], atol=1e-4, rtol=1e-4
        )
        table = model.network.label_enc.weight
        assert torch.equal(queries.content[row, slots], table[truth.labels[objects]])


def test_positives_stay_near_and_negatives_do_not(model, make_targets):
    """An edge moves by up to half the size, a negative's by half to all of it."""
    model.network.denoising = 400
    target = make_targets(*SMALL_OBJECTS)
    torch.manual_seed(0)
    boxes = denoising(model, [target]).queries.boxes[0].reshape(-1, 2, 2, 4)
    half = target.boxes[:, 2:].repeat(1, 2) / 2
    shifts = (edges(boxes) - edges(target.boxes)).abs() / half
    positive, negative = shifts[:, 0], shifts[:, 1]
    assert positive.max() < 1.01
    assert positive.max() > 0.95
    whole = (boxes[:, 1, :, 2:] > 1e-3).all(-1)  # edges of others passed one another
    assert whole.sum() > 100
    assert negative[whole].min() > 0.99
    assert negative[whole].max() < 2.01
    assert negative[whole].max() > 1.9


def test_a_quarter_of_the_labels_is_drawn_anew(model, make_targets):
    """Of the 3 classes one is the old one: 1/4 x 2/3 of the labels change."""
    model.network.denoising = 4000
    target = make_targets((0.5, 0.5, 0.2, 0.2))
    torch.manual_seed(0)
    content = denoising(model, [target]).queries.content[0]
    same = (content == model.network.label_enc.weight[0]).all(-1).float().mean().item()
    assert same == pytest.approx(1 - 1 / 6, abs=0.02)


def test_own_queries_do_not_see_the_truth(model, images, targets):
    """Groups see themselves, without padding, and the own queries; those see only one another."""
    model.network.train()
    with decoder_call(model.network.model.decoder) as call:
        model.training_pass(images, targets)
    seen = call["attention_mask"][:, 0] == 0
    assert seen.shape == (2, 80, 80)
    for image, holes in enumerate(([], [1, 3])):  # in every group of four
        for i in range(80):
            for j in range(80):
                both_denoising = i < 40 and j < 40
                fellow = i // 4 == j // 4 and (j % 4 not in holes or i == j)
                expected = fellow if both_denoising else j >= 40
                assert seen[image, i, j] == expected, (image, i, j)


def test_denoising_does_not_change_the_own_queries(model, images, targets):
    model.network.train()

    def losses(seed):
        torch.manual_seed(seed)
        return model.training_pass(images, targets)[0]

    one, two = losses(0), losses(1)
    ends = ("", "_0", "_encoder", "_denoising", "_0_denoising")
    assert {t.log_name for t in one} == {kind + end for kind in KINDS for end in ends}
    for term, value in one.items():
        same = value.item() == pytest.approx(two[term].item(), rel=1e-4)
        assert same != (term.part == "denoising"), term


@pytest.mark.usefixtures("noiseless")
def test_denoising_losses_by_hand(model, images, targets):
    """Ten positives and ten negatives of each of three objects, undecided about three classes."""
    with torch.no_grad():
        decoder = model.network.model.decoder
        for layer in (decoder.bbox_embed.layers[-1], decoder.class_embed):
            layer.weight.zero_()
            layer.bias.zero_()
        losses, _ = model.training_pass(images, targets)
    last = {t.name: v for t, v in losses.items() if (t.layer, t.part) == (None, "denoising")}
    assert last["loss_bbox"].item() == pytest.approx(0, abs=1e-3)
    assert last["loss_giou"].item() == pytest.approx(0, abs=1e-3)
    undecided = math.log(2) / 4
    positive, negative = (0.25 + 2 * 0.75) * undecided, 3 * 0.75 * undecided
    assert last["loss_ce"].item() == pytest.approx(positive + negative)


def test_without_objects_nothing_is_denoised(model, images, make_targets):
    losses, _ = model.training_pass(images, [make_targets()] * 2)
    assert {term.part for term in losses} == {"decoder", "encoder"}
    assert losses[LossTerm("loss_ce", apart=True)].item() > 0


def test_the_grid_of_stride_64_rounds_up(make_model, monkeypatch, images, targets):
    tiny = dino.PRESETS["edge-tiny"]
    four = replace(tiny, shape=replace(tiny.shape, levels=4))
    monkeypatch.setitem(dino.PRESETS, "four-levels", four)
    model = make_model("dino", "four-levels")
    model.network.train()
    losses, memory = model.training_pass(images, targets)
    assert memory.spatial_shapes == ((8, 12), (4, 6), (2, 3), (1, 2))
    assert all(v.isfinite() for v in losses.values())
