import pytest
import torch

from edgedetr.distill.detectors import Memory, Queries
from edgedetr.distill.methods import Batch, clock
from edgedetr.distill.methods.clock import Clock, Settings, lcmd
from edgedetr.distill.teacher_memory import TeacherMemory
from edgedetr.runtime.errors import SettingsError


def batch_of(student, teacher, images, targets):
    return Batch(images, targets, student.encode(images), TeacherMemory(teacher, 0)(images))


def test_the_adapter_is_trained_and_the_teacher_is_no_part_of_the_method(make_model):
    method = Clock(Settings(), make_model(), make_model(preset="edge-small"))
    assert {n for n, _ in method.named_parameters()} == {"adapter.weight", "adapter.bias"}
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


def memory_of(tokens, shapes):
    own = Queries(tokens, tokens[..., :0], torch.ones(0))
    return Memory(tokens, shapes, torch.ones(tokens.shape[:2], dtype=torch.bool), own, {})


def test_lcmd_of_a_hand_worked_case(make_targets):
    """One level of 2 x 4 cells, one box on cells 0..1 x 0..1, difference 1 in each of 3 channels.

    Foreground cells carry 1/4 each and background cells 1/4 each, so with alpha 2 and beta 0.5 the
    loss is 2 * 3 + 0.5 * 3 = 7.5.
    """
    shapes = ((2, 4),)
    student, teacher = (
        memory_of(torch.zeros(1, 8, 3), shapes),
        memory_of(torch.ones(1, 8, 3), shapes),
    )
    settings = Settings(alpha=2.0, beta=0.5, memory_norm="none")
    target = make_targets((0.125, 0.25, 0.25, 0.5))
    loss = lcmd(student.tokens, student, teacher, [target], settings)
    assert loss.item() == pytest.approx(7.5)
    half = memory_of(torch.full((1, 8, 3), 0.5), shapes)
    assert lcmd(half.tokens, half, teacher, [target], settings).item() == pytest.approx(7.5 / 4)


def test_memories_of_another_grid_are_resized(make_targets):
    student = memory_of(torch.zeros(1, 8, 3), ((2, 4),))
    teacher = memory_of(torch.ones(1, 32, 3), ((4, 8),))
    settings = Settings(memory_norm="none", alpha=1.0, beta=0.0)
    target = make_targets((0.5, 0.5, 0.4, 0.4))
    assert lcmd(student.tokens, student, teacher, [target], settings).item() == pytest.approx(3)


def test_a_different_number_of_levels_is_named(make_targets):
    student = memory_of(torch.zeros(1, 8, 3), ((2, 4),))
    teacher = memory_of(torch.zeros(1, 10, 3), ((2, 4), (1, 2)))
    with pytest.raises(SettingsError, match="1 levels, the teacher's 2"):
        lcmd(student.tokens, student, teacher, [make_targets()], Settings())


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
