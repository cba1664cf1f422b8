from dataclasses import replace

import pytest
import torch

from edgedetr.distill.losses.feature_levels import LevelPair
from edgedetr.distill.losses.foreground_mask import cell_weights
from edgedetr.distill.methods import clock
from edgedetr.distill.methods.clock import Clock, Settings, lcmd
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch


def batch_of(student, teacher, images, targets):
    return Batch(images, targets, student.encode(images), TeacherMemory(teacher)(images))


def test_the_adapter_is_trained_and_the_teacher_is_no_part_of_the_method(make_model):
    method = Clock(Settings(), make_model(), make_model(preset="edge-small"))
    assert {n for n, _ in method.named_parameters()} == {
        f"levels.adapters.{level}.{kind}" for level in range(3) for kind in ("weight", "bias")
    }
    same = Clock(Settings(), make_model(), make_model())
    assert not list(same.parameters())


def test_images_without_objects_give_finite_losses_and_gradients(make_model, make_targets, images):
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    empty = [make_targets(), make_targets()]
    terms = Clock(Settings(), student, teacher)(batch_of(student, teacher, images, empty))
    assert terms["tcld_class"].item() == terms["tcld_l1"].item() == terms["tcld_giou"].item() == 0
    torch.stack(list(terms.values())).sum().backward()
    for parameter in student.network.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def pair_of(student, teacher, target):
    """One level of 2 x 4 cells and 3 channels, of two values everywhere."""
    mask = torch.ones(1, 2, 4, dtype=torch.bool)
    mine, theirs = (torch.full((1, 3, 2, 4), value) for value in (student, teacher))
    return LevelPair(mine, theirs, *cell_weights([target], mask))


def test_lcmd_of_a_hand_worked_case(make_targets):
    """One level of 2 x 4 cells, one box on cells 0..1 x 0..1, difference 1 in each of 3 channels.

    Foreground cells carry 1/4 each and background cells 1/4 each, so with alpha 2 and beta 0.5 the
    loss is 2 * 3 + 0.5 * 3 = 7.5.
    """
    settings = Settings(alpha=2.0, beta=0.5, memory_norm="none")
    target = make_targets((0.125, 0.25, 0.25, 0.5))
    whole, half = pair_of(0.0, 1.0, target), pair_of(0.5, 1.0, target)
    assert lcmd([whole], settings).item() == pytest.approx(7.5)
    assert lcmd([half], settings).item() == pytest.approx(7.5 / 4)
    assert lcmd([whole, half], settings).item() == pytest.approx(7.5 * 5 / 4)


def test_standardised_memories_differ_by_pattern_and_not_by_scale(make_targets):
    target = make_targets((0.125, 0.25, 0.25, 0.5))
    pair = pair_of(0.0, 0.0, target)
    pattern = torch.rand(1, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    settings = Settings(alpha=1.0, beta=1.0)
    same = replace(pair, student=pattern, teacher=5 * pattern + 3)
    assert lcmd([same], settings).item() == pytest.approx(0, abs=1e-4)
    other = replace(pair, student=pattern, teacher=-pattern)
    assert lcmd([other], settings).item() > 1


def test_memories_of_different_depth_are_compared_where_their_strides_agree(
    make_model, images, targets
):
    """DAB-DETR has one level, D-FINE three."""
    student, teacher = make_model("d_fine"), make_model("dab_detr", "edge-small")
    method = Clock(Settings(), student, teacher)
    assert len(method.levels) == 1
    assert method(batch_of(student, teacher, images, targets))["lcmd"] > 0


@pytest.mark.parametrize(
    ("choice", "wrong"), [("groups", 0), ("temperature", 0.0), ("random_queries", -1)]
)
def test_settings_out_of_range_are_refused(choice, wrong):
    with pytest.raises(ValueError, match=choice):
        Settings(**{choice: wrong})


def test_the_papers_literal_choices_run(make_model, images, targets):
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    settings = clock.Settings(
        memory_norm="none",
        class_loss="softmax_kl",
        class_norm="sum",
        temperature=10.0,
        groups=3,
        label_noise=0.2,
        box_noise=0.4,
        layers="final",
    )
    terms = Clock(settings, student, teacher)(batch_of(student, teacher, images, targets))
    assert terms.pop("tcld_corners") == 0
    assert all(v.isfinite() and v > 0 for v in terms.values())


def test_each_set_of_queries_adds_a_loss_of_its_own(make_model, images, targets):
    """The sets' losses add up, and random ones are new at each step."""
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    batch = batch_of(student, teacher, images, targets)

    def loss(**extra):
        torch.manual_seed(3)
        return Clock(Settings(**extra), student, teacher)(batch)["tcld_l1"].item()

    truth = loss()
    own = loss(teacher_queries=True) - truth
    random = loss(random_queries=5) - truth
    assert min(truth, own, random) > 0
    both = loss(teacher_queries=True, random_queries=5)
    assert both == pytest.approx(truth + own + random, rel=1e-4)
    method = Clock(Settings(random_queries=5), student, teacher)
    assert method(batch)["tcld_l1"].item() != method(batch)["tcld_l1"].item()
