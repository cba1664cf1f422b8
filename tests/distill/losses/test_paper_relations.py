import math

import pytest
import torch

from edgedetr.distill.losses.feature_levels import LevelPair
from edgedetr.distill.losses.foreground_mask import cell_weights
from edgedetr.distill.losses.object_relations import objects
from edgedetr.distill.losses.paper_relations import (
    PaperObjectRelations,
    PaperPixelRelations,
    relation_difference,
)
from edgedetr.distill.methods.drkd import PaperDrkd, Settings, build, paper_pixel_term
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch

TWO = (0.3, 0.4, 0.2, 0.3), (0.7, 0.5, 0.3, 0.4)


def test_related_cells_of_a_hand_worked_level():
    """Cells 1 and 3, one node: projection 2 x, states x and -x, W_nodes 0, W_states the identity.

    Z0 is a sum, 1 * 2 + 3 * 6 = 20 and -20; rectified 20 and 0; extended 20 * 2 x = 40 and 120,
    normalised -1 and 1; and the cells themselves are added: 0 and 4.
    """
    unit = PaperPixelRelations(1, 1)
    for layer in (unit.state, unit.projection, unit.nodes):
        torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    unit.state.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    unit.projection.weight.data.fill_(2.0)
    unit.nodes.weight.data.zero_()
    unit.states.weight.data = torch.eye(2)
    unit.extend.weight.data = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    out = unit(torch.tensor([[[[1.0, 3.0]]]]), torch.ones(1, 1, 2, dtype=torch.bool))
    torch.testing.assert_close(out, torch.tensor([[[[0.0, 4.0]]]]))


def test_relations_are_a_filtered_softmax_over_all_objects(make_targets):
    found = objects([make_targets(*TWO), make_targets(*TWO[:1])])
    module, features = PaperObjectRelations(4), torch.randn(2, 2, 36)
    psi = module(features, found)
    assert psi[1].tolist() == [[1, 0], [0, 0]]  # an object alone, and a slot that fills up
    query, key = module.one(features[0]), module.other(features[0])
    w = module.filter(features, found.boxes)[0]
    scores = [w[0, j].item() * (query[0] @ key[j]).item() for j in (0, 1)]
    expect = math.exp(scores[0]) / sum(map(math.exp, scores))
    assert psi[0, 0].tolist() == pytest.approx([expect, 1 - expect], rel=1e-4)


def test_the_relation_term_is_a_sum_over_pairs_of_images_with_several_objects(make_targets):
    """Four differences of 1/2 in the first image: 1; the second has no pair."""
    found = objects([make_targets(*TWO), make_targets(*TWO[:1])])
    student, teacher = torch.full((2, 2, 2), 0.5), torch.eye(2).repeat(2, 1, 1)
    assert relation_difference(student, teacher, found).item() == 1
    alone = objects([make_targets(*TWO[:1])])
    assert relation_difference(student[:1, :1, :1], teacher[:1, :1, :1], alone).item() == 0


class Twice(torch.nn.Module):
    def forward(self, level, _):  # type: ignore[explicit-override]
        return 2 * level


def test_the_pixel_term_is_a_mean_square_over_counted_cells(make_targets):
    """Levels of 1 and 2 over two channels, both doubled: (4 - 2)^2."""
    ones = torch.ones(1, 2, 2, 4)
    weights = cell_weights([make_targets(TWO[0])], torch.ones(1, 2, 4, dtype=torch.bool))
    term = paper_pixel_term(LevelPair(ones, 2 * ones, *weights), Twice(), Twice())
    assert term.item() == 4


def test_the_papers_form_teaches_the_student_and_trains_the_modules_of_both_sides(
    make_model, images, make_targets
):
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    teacher.network.requires_grad_(requires_grad=False)
    method = build(Settings(form="paper"), student, teacher)
    assert isinstance(method, PaperDrkd)
    targets = [make_targets(*TWO)] * 2
    batch = Batch(images, targets, student.encode(images), TeacherMemory(teacher)(images))
    terms = method(batch)
    assert set(terms) == set(PaperDrkd.terms)
    assert terms["modules"].item() == 0
    for name in ("pixel", "relation", "instance"):
        (gradient,) = torch.autograd.grad(terms[name], batch.memory.tokens, retain_graph=True)
        assert gradient.abs().sum() > 0, name
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in teacher.network.parameters())
    assert all(p.grad.abs().sum() > 0 for p in method.parameters() if p.ndim > 1)  # type: ignore[union-attr]


def test_a_share_of_plain_features_is_of_the_redesign_alone():
    with pytest.raises(ValueError, match="plain_share = 0 needs form = 'redesign'"):
        Settings(form="paper", plain_share=0)
