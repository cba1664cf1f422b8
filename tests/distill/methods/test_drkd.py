from dataclasses import replace

import pytest
import torch

from edgedetr.distill.losses.feature_levels import LevelPair
from edgedetr.distill.losses.foreground_mask import cell_weights
from edgedetr.distill.losses.object_relations import (
    ObjectRelations,
    objects,
)
from edgedetr.distill.losses.pixel_relations import PixelRelations
from edgedetr.distill.methods import supported_pairs
from edgedetr.distill.methods.drkd import Drkd, Settings, object_terms, pixel_terms
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch
from edgedetr.runtime.plugins import names


def pair_of(student, teacher, targets, mask=None):
    mask = torch.ones(student[:, 0].shape, dtype=torch.bool) if mask is None else mask
    return LevelPair(student, teacher, *cell_weights(targets, mask))


def batch_of(student, teacher, images, targets):
    return Batch(images, targets, student.encode(images), TeacherMemory(teacher)(images))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_every_pair_of_families_is_taken():
    families = names("edgedetr.distill.detectors")
    assert supported_pairs("drkd") == [(s, t) for s in families for t in families]


def test_a_student_equal_to_its_teacher_costs_nothing(make_model, images, targets):
    student, teacher = make_model(), make_model()
    terms = Drkd(Settings(), student, teacher)(batch_of(student, teacher, images, targets))
    assert set(terms) == set(Drkd.terms)
    assert all(abs(v.item()) < 1e-6 for k, v in terms.items() if k != "modules")


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
    without, _ = pixel_terms(pair_of(student, teacher, [target]), Same(), plain_share=0)
    assert without.item() == pytest.approx(9 / 2)  # what relations make of the cells alone
    # standardised, a channel without variance is 0, but Same says 3 and 0
    assert told.item() == pytest.approx(9 / 2)


THREE = (0.3, 0.4, 0.2, 0.3), (0.7, 0.5, 0.3, 0.4), (0.5, 0.7, 0.3, 0.2)


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


def test_relations_alone_can_teach(models, make_targets, images):
    """Without plain features the pixel term is smaller, and still reaches the student."""
    batch = batch_of(*models, images, [make_targets(*THREE)] * 2)  # type: ignore[call-arg]
    alone = Settings(instance_weight=0.0, plain_share=0.0)
    terms = []
    for settings in (Settings(), alone):
        torch.manual_seed(0)
        terms.append(Drkd(settings, *models)(batch))
    assert terms[1]["pixel"] < terms[0]["pixel"]
    assert terms[1]["instance"].item() == 0
    assert torch.equal(terms[1]["relation"], terms[0]["relation"])
    (gradient,) = torch.autograd.grad(terms[1]["pixel"], batch.memory.tokens)
    assert gradient.abs().sum() > 0


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
