import math
from dataclasses import replace

import pytest
import torch

from edgedetr.distill.losses.feature_levels import LevelPair
from edgedetr.distill.losses.foreground_mask import cell_weights
from edgedetr.distill.losses.object_relations import (
    MOST,
    ObjectRelations,
    RelationFilter,
    objects,
    pair_geometry,
)
from edgedetr.distill.losses.pixel_relations import PixelRelations
from edgedetr.distill.methods import supported_pairs
from edgedetr.distill.methods.drkd import Drkd, Settings, object_terms, pixel_terms
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch, Targets
from edgedetr.runtime.plugins import names


def pair_of(student, teacher, targets, mask=None):
    mask = torch.ones(student[:, 0].shape, dtype=torch.bool) if mask is None else mask
    return LevelPair(student, teacher, *cell_weights(targets, mask))


def batch_of(student, teacher, images, targets):
    return Batch(images, targets, student.encode(images), TeacherMemory(teacher)(images))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def models(make_model):
    teacher = make_model(preset="edge-small", seed=1)
    teacher.network.requires_grad_(requires_grad=False)
    return make_model(), teacher


def test_every_pair_of_families_is_taken():
    families = names("edgedetr.distill.detectors")
    assert supported_pairs("drkd") == [(s, t) for s in families for t in families]


def test_a_student_equal_to_its_teacher_costs_nothing(make_model, images, targets):
    student, teacher = make_model(), make_model()
    terms = Drkd(Settings(), student, teacher)(batch_of(student, teacher, images, targets))
    assert set(terms) == set(Drkd.terms)
    assert all(abs(v.item()) < 1e-6 for k, v in terms.items() if k != "modules")


def test_nodes_gather_a_mean_over_cells():
    """One channel with cells 1 and 3, one node: projection 2 x, states x and -x.

    Z0 is the mean of x * 2 x and -x * 2 x: (1 * 2 + 3 * 6) / 2 = 10 and -10.
    """
    unit = PixelRelations(1, 1)
    for layer in (unit.state, unit.projection):
        torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    unit.state.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    unit.projection.weight.data.fill_(2.0)
    level = torch.tensor([[[[1.0, 3.0]]]])
    projection, counted = unit.projection(level), torch.ones(1, 1, 2, dtype=torch.bool)
    graph = unit.node_states(level, projection, counted)
    torch.testing.assert_close(graph, torch.tensor([[[10.0], [-10.0]]]))
    twice = level.repeat(1, 1, 5, 1)
    again = unit.node_states(twice, unit.projection(twice), torch.ones(1, 5, 2, dtype=torch.bool))
    torch.testing.assert_close(again, graph)  # the size of the level does not matter


def test_related_cells_of_a_hand_worked_level():
    """The unit above, with W_nodes 0, W_states the identity and an extension (1, 0).

    Z is (10, -1), leaking 0.1 of what is negative, extended cells are 10 * 2 x = 20 and 60,
    standardised -1 and 1.
    """
    unit = PixelRelations(1, 1)
    for layer in (unit.state, unit.projection, unit.nodes):
        torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    unit.state.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    unit.projection.weight.data.fill_(2.0)
    unit.nodes.weight.data.zero_()
    unit.states.weight.data = torch.eye(2)
    unit.extend.weight.data = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    level = torch.tensor([[[[1.0, 3.0]]]])
    out = unit(level, torch.ones(1, 1, 2, dtype=torch.bool))
    torch.testing.assert_close(out, torch.tensor([[[[-1.0, 1.0]]]]), atol=1e-4, rtol=0)


class Same(torch.nn.Module):
    """Stands for relations that say what the features are."""

    def forward(self, features, _):  # type: ignore[explicit-override]
        return features


def test_the_pixel_terms_are_mean_squares_over_counted_cells(make_targets):
    """Sides differ by (3, 0) in every cell that counts, cells and relations alike: 2 * 9 / 2."""
    student = torch.zeros(1, 2, 2, 4)
    teacher = student.clone()
    teacher[:, 0] = 3
    teacher[..., 3] = 50
    target = make_targets(ignored=[(0.9, 0.5, 0.1, 0.9)])
    pixel, told = pixel_terms(pair_of(student, teacher, [target]), Same())
    assert pixel.item() == pytest.approx(9)
    # standardised, a channel without variance is 0, but Same says 3 and 0
    assert told.item() == pytest.approx(9 / 2)


def test_the_geometry_of_a_pair():
    boxes = torch.tensor([[[0.2, 0.4, 0.1, 0.2], [0.5, 0.3, 0.2, 0.1]]])
    geometry = pair_geometry(boxes)[0]
    expect = [math.log(1 + 3), -math.log(1 + 0.5), math.log(2), -math.log(2)]
    torch.testing.assert_close(geometry[0, 1], torch.tensor(expect))
    back = [-math.log(1 + 1.5), math.log(1 + 1), -math.log(2), math.log(2)]
    torch.testing.assert_close(geometry[1, 0], torch.tensor(back))
    assert geometry[0, 0].abs().max() == 0


def test_the_filter_is_a_network_over_both_objects_and_their_geometry():
    """Its first layer is split in three; joined it is one linear layer over the concatenation."""
    kept = RelationFilter(5)
    features, boxes = noise(1, 3, 5), torch.rand(1, 3, 4) * 0.5 + 0.1
    one = features[:, :, None].expand(1, 3, 3, 5)
    joined = torch.cat([one, one.transpose(1, 2), pair_geometry(boxes)], -1)
    weight = torch.cat([kept.one.weight, kept.other.weight, kept.geometry.weight], 1)
    hidden = torch.nn.functional.linear(joined, weight, kept.one.bias).relu()
    expect = kept.last(hidden)[..., 0].sigmoid()
    torch.testing.assert_close(kept(features, boxes), expect)


THREE = (0.3, 0.4, 0.2, 0.3), (0.7, 0.5, 0.3, 0.4), (0.5, 0.7, 0.3, 0.2)


def test_relations_are_a_filtered_softmax_over_the_other_objects_of_the_image(make_targets):
    found = objects([make_targets(*THREE), make_targets(*THREE[:2])])
    module, features = ObjectRelations(4), noise(2, 3, 36)
    weights = module.relations(features, found)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))
    assert weights[1, :2].tolist() == [[0, 1, 0], [1, 0, 0]]  # slot 2 is no object
    query, key = module.theta(features[0]), module.phi(features[0])
    w = module.filter(features, found.boxes)[0]
    scores = [w[0, j].item() * (query[0] @ key[j]).item() / 2 for j in (1, 2)]
    expect = math.exp(scores[0]) / sum(math.exp(s) for s in scores)
    assert weights[0, 0].tolist() == pytest.approx([0, expect, 1 - expect], rel=1e-4)


def test_what_objects_gather_is_standardised_over_the_related_objects(make_targets):
    module = ObjectRelations(2)
    found = objects([make_targets(*THREE), make_targets(*THREE[:1])])
    features = 10 * noise(2, 3, 18)  # large beside the 1e-6 that is added to variances
    told = module(features, found)[0]
    assert told.mean(0).abs().max() < 1e-5
    torch.testing.assert_close(told.var(0, unbiased=False), torch.ones(18), rtol=1e-2, atol=0)
    gathered = module.out(module.relations(features, found) @ module.g(features))[0]
    centred = gathered - gathered.mean(0)
    torch.testing.assert_close(
        torch.nn.functional.cosine_similarity(told, centred, 0), torch.ones(18)
    )


def test_object_features_are_pooled_from_their_boxes(make_targets):
    """On a ramp x, an object's bins are the ramp's values at a third of its width each."""
    ramp = torch.arange(12.0).repeat(1, 1, 12, 1)
    found = objects([make_targets((0.5, 0.5, 0.5, 0.5))])  # cells 3 to 9, bins of 2 cells
    features = found.features(ramp).reshape(3, 3)
    torch.testing.assert_close(features, torch.tensor([3.5, 5.5, 7.5]).repeat(3, 1))


def test_the_instance_term_counts_every_object_once(make_targets):
    """Objects of difference 1 (two) and 2 (one): (1 + 1 + 4) / 3."""
    targets = [
        make_targets((0.3, 0.4, 0.2, 0.3), (0.7, 0.5, 0.3, 0.4)),
        make_targets((0.5, 0.5, 0.5, 0.5)),
    ]
    teacher = torch.ones(2, 2, 8, 8)
    teacher[1] = 2
    pair = pair_of(torch.zeros(2, 2, 8, 8), teacher, targets)
    _, instance, _ = object_terms(pair, objects(targets), Same())
    assert instance.item() == pytest.approx(2)


def test_images_with_fewer_than_two_objects_have_no_relations(make_targets):
    """The same levels as above, relations replaced by the features: only image 0 counts."""
    targets = [
        make_targets((0.3, 0.4, 0.2, 0.3), (0.7, 0.5, 0.3, 0.4)),
        make_targets((0.5, 0.5, 0.5, 0.5)),
    ]
    teacher = torch.ones(2, 2, 8, 8)
    teacher[1] = 2
    pair = pair_of(torch.zeros(2, 2, 8, 8), teacher, targets)
    relation, _, _ = object_terms(pair, objects(targets), Same())
    assert relation.item() == pytest.approx(1)
    alone = objects(targets[1:])
    assert not alone.related.any()


def test_of_a_crowd_a_random_hundred_is_taken():
    boxes = torch.rand(150, 4, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.2
    crowd = Targets(torch.zeros(150, dtype=torch.long), boxes, torch.zeros(0, 4))
    torch.manual_seed(0)
    one, two = objects([crowd]), objects([crowd])
    assert one.boxes.shape == (1, MOST, 4)
    assert one.valid.all()
    assert not torch.equal(one.boxes, two.boxes)
    assert len({tuple(b) for b in one.boxes[0].tolist()}) == MOST


def test_the_filter_keeps_its_weights_gets_gradient_and_changes(models, make_targets, images):
    torch.manual_seed(0)
    method = Drkd(Settings(), *models)
    batch = batch_of(*models, images, [make_targets(*THREE)] * 2)  # type: ignore[call-arg]
    first, second = method(batch), method(batch)
    assert first["relation"].item() == second["relation"].item()
    before = {k: v.clone() for k, v in method.object_relations.named_parameters()}
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=0.0)
    first["modules"].backward()
    optimizer.step()
    changed = {k for k, v in method.object_relations.named_parameters() if (v != before[k]).any()}
    for level in (0, 1):
        for layer in ("one", "other", "geometry", "last"):
            assert f"{level}.filter.{layer}.weight" in changed


def test_relations_learn_which_objects_tell_an_object():
    """Each object has one like it in its image, besides two others that are far away."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(16, 2, 9 * 4, generator=generator)
    features = kinds.repeat_interleave(2, 1)
    near = torch.tensor([[0.2, 0.5], [0.25, 0.5], [0.8, 0.5], [0.85, 0.5]])
    boxes = torch.cat([near, torch.full((4, 2), 0.1)], 1)
    found = objects(
        [Targets(torch.zeros(4, dtype=torch.long), boxes, torch.zeros(0, 4)) for _ in range(16)]
    )
    torch.manual_seed(0)
    module = ObjectRelations(4)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)

    def told():
        return (module(features, found) - found.standardised(features)).square().mean()

    first = told().item()
    for _ in range(150):
        optimizer.zero_grad()
        told().backward()
        optimizer.step()
    assert told().item() < 0.7 * first
    weights = module.relations(features, found)
    apart = [weights[:, i, i ^ 1].mean().item() for i in range(4)]
    assert min(apart) > 0.4  # of three others, one third each at random


def test_training_does_not_collapse_the_relations(make_targets):
    """Between unrelated features that stay as they are, modules must not come to agree."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(3)
    targets = [
        make_targets(*(torch.rand(20, 4, generator=generator) * 0.4 + 0.2).tolist())
        for _ in range(2)
    ]
    student, teacher = noise(2, 8, 12, 16, seed=1), noise(2, 8, 12, 16, seed=2)
    pair, found = pair_of(student, teacher, targets), objects(targets)
    pixel, related = PixelRelations(8, 4), ObjectRelations(8)

    def terms():
        return *pixel_terms(pair, pixel), *object_terms(pair, found, related)

    with torch.no_grad():
        first = terms()
    optimizer = torch.optim.Adam([*pixel.parameters(), *related.parameters()], lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        torch.stack(terms()).sum().backward()
        optimizer.step()
    with torch.no_grad():
        last = terms()
        assert last[0] > 0.8 * first[0]  # pixel
        assert last[2] > 0.8 * first[2]  # relation
        assert last[1] < 0.8 * first[1]  # the modules' own share falls
        assert last[4] < 0.8 * first[4]
        assert pixel(teacher, pair.counted).var((2, 3)).min() > 0.9
        told = related(found.features(teacher), found)
        assert told[found.related].var(0).min() > 0.9


def test_the_student_does_not_train_the_modules_nor_the_modules_the_student(make_targets):
    """The teacher's features given a gradient on purpose: none arrives from what students learn."""
    targets = [make_targets(*THREE)]
    student, teacher = (noise(1, 4, 8, 8, seed=s).requires_grad_() for s in (1, 2))
    pair, found = pair_of(student, teacher, targets), objects(targets)
    fixed = replace(pair, teacher=teacher.detach())
    pixel, related = PixelRelations(4, 2), ObjectRelations(4)
    learnt, told = pixel_terms(fixed, pixel)
    relation, instance, told_by_others = object_terms(fixed, found, related)
    parameters = [*pixel.parameters(), *related.parameters()]
    grads = torch.autograd.grad(
        learnt + relation + instance, [student, *parameters], allow_unused=True, retain_graph=True
    )
    assert grads[0].abs().sum() > 0
    assert all(g is None for g in grads[1:])
    (gradient,) = torch.autograd.grad(told + told_by_others, [student], allow_unused=True)
    assert gradient is None


def test_ignored_and_padded_cells_count_in_no_relation(make_targets):
    target = make_targets((0.2, 0.3, 0.2, 0.2), ignored=[(0.8, 0.5, 0.2, 0.4)])
    mask = torch.ones(1, 6, 8, dtype=torch.bool)
    mask[:, 5:] = False
    student, teacher = noise(1, 4, 6, 8, seed=1), noise(1, 4, 6, 8, seed=2)
    pair = pair_of(student, teacher, [target], mask)
    other = replace(
        pair,
        student=torch.where(pair.counted[:, None], student, 100.0),
        teacher=torch.where(pair.counted[:, None], teacher, -100.0),
    )
    unit = PixelRelations(4, 2)
    torch.testing.assert_close(pixel_terms(other, unit), pixel_terms(pair, unit))


def test_each_term_reaches_the_student_and_none_the_teacher(models, make_targets, images):
    student, teacher = models
    method = Drkd(Settings(), student, teacher)
    batch = batch_of(student, teacher, images, [make_targets(*THREE)] * 2)
    terms = method(batch)
    for name in ("pixel", "relation", "instance"):
        (gradient,) = torch.autograd.grad(terms[name], batch.memory.tokens, retain_graph=True)
        assert gradient.abs().sum() > 0, name
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in teacher.network.parameters())
    assert all(p.grad.abs().sum() > 0 for p in method.parameters() if p.ndim > 1)  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [0, 1])
def test_images_with_few_objects_give_finite_terms_and_gradients(
    count, models, make_targets, images
):
    few = [make_targets(*[(0.4, 0.4, 0.3, 0.3)] * count)] * 2
    terms = Drkd(Settings(), *models)(batch_of(*models, images, few))  # type: ignore[call-arg]
    assert terms["relation"].item() == 0
    assert (terms["instance"].item() == 0) == (count == 0)
    torch.stack(list(terms.values())).sum().backward()
    gradients = [p.grad for p in models[0].network.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
