import math
from dataclasses import replace

import pytest
import torch

from edgedetr.distill.losses.feature_levels import LevelPair
from edgedetr.distill.losses.foreground_mask import cell_weights
from edgedetr.distill.methods import supported_pairs
from edgedetr.distill.methods.fgd import (
    ContextBlock,
    Fgd,
    Settings,
    attention,
    focal_terms,
    global_term,
)
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch
from edgedetr.runtime.plugins import names


def batch_of(student, teacher, images, targets):
    return Batch(images, targets, student.encode(images), TeacherMemory(teacher)(images))


def pair_of(student, teacher, targets, mask=None):
    mask = torch.ones(student[:, 0].shape, dtype=torch.bool) if mask is None else mask
    return LevelPair(student, teacher, *cell_weights(targets, mask))


def test_every_pair_of_families_is_taken():
    families = names("edgedetr.distill.detectors")
    assert supported_pairs("fgd") == [(s, t) for s in families for t in families]


def test_a_student_equal_to_its_teacher_costs_nothing(make_model, images, targets):
    student, teacher = make_model(), make_model()
    terms = Fgd(Settings(), student, teacher)(batch_of(student, teacher, images, targets))
    assert set(terms) == set(Fgd.terms)
    assert all(abs(v.item()) < 1e-6 for v in terms.values())


def test_attention_of_a_hand_worked_level():
    """Two channels on 1 x 2 cells, temperature 0.5.

    |F| is (1, 0) and (3, 2): means over channels 2 and 1, over cells 0.5 and 2.5.
    """
    level = torch.tensor([[[[-1.0, 0.0]], [[3.0, -2.0]]]])
    cells, channels = attention(level, torch.ones(1, 1, 2, dtype=torch.bool), 0.5)
    one = 1 / (1 + math.exp(-(2 - 1) / 0.5))
    two = 1 / (1 + math.exp(-(2.5 - 0.5) / 0.5))
    torch.testing.assert_close(cells, torch.tensor([[[2 * one, 2 * (1 - one)]]]))
    torch.testing.assert_close(channels, torch.tensor([[2 * (1 - two), 2 * two]]))


def test_focal_terms_of_a_hand_worked_level(make_targets):
    """One channel on 1 x 4 cells; the box covers columns 0 and 1.

    Rounded outwards it is 2 x 2 cells, of which the grid has one row: M is 1/4 on either cell, as
    FGD's is. The teacher is 1 everywhere, so S and C are 1; the student is 3, 1, 1, 2. Foreground
    is (4 + 0) / 4, background (0 + 1) / 2. The student's channel attention is 1 too; its cells' is
    4 softmax(6, 2, 2, 4).
    """
    student = torch.tensor([[[[3.0, 1.0, 1.0, 2.0]]]])
    pair = pair_of(student, torch.ones(1, 1, 1, 4), [make_targets((0.125, 0.5, 0.25, 1.0))])
    found = focal_terms(pair, 0.5)
    assert found["foreground"].item() == pytest.approx(4 / 4)
    assert found["background"].item() == pytest.approx(1 / 2)
    powers = [math.exp(x) for x in (6, 2, 2, 4)]
    apart = sum(abs(4 * p / sum(powers) - 1) for p in powers)
    assert found["attention"].item() == pytest.approx(apart, rel=1e-5)


def test_the_teachers_attention_weights_the_focal_terms(make_targets):
    """The teacher looks at cell 0 with 2 * sigmoid(2) and at cell 1 with the rest."""
    teacher = torch.tensor([[[[2.0, 1.0]]]])
    pair = pair_of(teacher + 1, teacher, [make_targets()])
    share = 1 / (1 + math.exp(-2))
    assert focal_terms(pair, 0.5)["background"].item() == pytest.approx(share + (1 - share))
    pair = pair_of(teacher + torch.tensor([1.0, 0.0]), teacher, [make_targets()])
    assert focal_terms(pair, 0.5)["background"].item() == pytest.approx(share)


def test_the_global_term_of_a_hand_worked_level(make_targets):
    """A fresh block adds nothing: squares 4 + 9. One whose last bias is 1 adds 1 on one side."""
    pair = pair_of(torch.tensor([[[[2.0, 3.0]]]]), torch.zeros(1, 1, 1, 2), [make_targets()])
    one, other = ContextBlock(1), ContextBlock(1)
    assert global_term(pair, one, other).item() == pytest.approx(13)
    torch.nn.init.ones_(other.transform[-1].bias)  # type: ignore[arg-type]
    assert global_term(pair, one, other).item() == pytest.approx(1 + 4)


def test_context_is_gathered_by_attention():
    """Attention logits 0 and log 3 weigh cells 1/4 and 3/4; the last layer is replaced by 1."""
    block = ContextBlock(1)
    torch.nn.init.constant_(block.attention.weight, math.log(3))
    torch.nn.init.zeros_(block.attention.bias)  # type: ignore[arg-type]
    block.transform = torch.nn.Identity()  # type: ignore[assignment]
    level = torch.tensor([[[[0.0, 1.0]]]])
    out = block(level, torch.ones(1, 1, 2, dtype=torch.bool))
    torch.testing.assert_close(out, level + 0.75)


def test_training_the_context_blocks_cannot_make_the_global_term_vanish(make_targets):
    """They add one number a channel and image: what differs between cells stays."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 4, 6, 8, generator=generator) for _ in range(2))
    pair = pair_of(student, teacher, [make_targets()] * 2)
    difference = student - teacher
    least = (difference - difference.mean((2, 3), keepdim=True)).square().sum() / 2
    blocks = ContextBlock(4), ContextBlock(4)
    optimizer = torch.optim.Adam([p for b in blocks for p in b.parameters()], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        global_term(pair, *blocks).backward()
        optimizer.step()
    assert global_term(pair, *blocks).item() >= least.item() * 0.999


def test_ignored_and_padded_cells_count_in_no_term(make_targets):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(1, 3, 6, 8, generator=generator) for _ in range(2))
    target = make_targets((0.2, 0.3, 0.2, 0.2), ignored=[(0.8, 0.5, 0.2, 0.4)])
    mask = torch.ones(1, 6, 8, dtype=torch.bool)
    mask[:, 5:] = False
    pair = pair_of(student, teacher, [target], mask)
    left_out = ~pair.counted
    assert left_out[0, 5].all()
    assert left_out[0, :5].any()
    changed = [torch.where(left_out[:, None], 100.0, x) for x in (student, -teacher)]
    other = replace(pair, student=changed[0], teacher=torch.where(left_out, changed[1], teacher))
    blocks = ContextBlock(3), ContextBlock(3)
    for name, value in focal_terms(pair, 0.5).items():
        assert focal_terms(other, 0.5)[name].item() == pytest.approx(value.item()), name
    torch.testing.assert_close(global_term(other, *blocks), global_term(pair, *blocks))


def test_an_image_that_is_ignored_as_a_whole_costs_nothing(make_targets):
    everywhere = make_targets(ignored=[(0.5, 0.5, 1.0, 1.0)])
    student = torch.ones(1, 2, 3, 4, requires_grad=True)
    pair = pair_of(student, torch.zeros(1, 2, 3, 4), [everywhere])
    found = focal_terms(pair, 0.5)
    assert found["foreground"].item() == found["background"].item() == 0
    total = torch.stack([*found.values(), global_term(pair, ContextBlock(2), ContextBlock(2))])
    total.sum().backward()
    assert student.grad.isfinite().all()  # type: ignore[union-attr]


def test_each_term_reaches_the_student_and_none_the_teacher(models, images, targets):
    student, teacher = models
    method = Fgd(Settings(), student, teacher)
    memory = student.encode(images)
    terms = method(replace(batch_of(student, teacher, images, targets), memory=memory))
    for name, value in terms.items():
        (gradient,) = torch.autograd.grad(value, memory.tokens, retain_graph=True)
        assert gradient.abs().sum() > 0, name
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in teacher.network.parameters())
    assert all(a.weight.grad.abs().sum() > 0 for a in method.levels.adapters)  # type: ignore[operator, union-attr]


def test_images_without_objects_give_finite_terms(models, make_targets, images):
    empty = [make_targets(), make_targets()]
    terms = Fgd(Settings(), *models)(batch_of(*models, images, empty))  # type: ignore[call-arg]
    assert terms["foreground"].item() == 0
    assert all(v.isfinite() for v in terms.values())


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="temperature"):
        Settings(temperature=0.0)
