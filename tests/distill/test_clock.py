import pytest
import torch

from edgedetr.distill.detectors import Memory, Queries, Targets
from edgedetr.distill.methods import Batch, clock
from edgedetr.distill.methods.clock import Clock, Settings, lcmd
from edgedetr.distill.teacher_memory import TeacherMemory
from edgedetr.runtime.errors import SettingsError
from edgedetr.runtime.plugins import names

FAMILIES = names("edgedetr.distill.detectors")
TERMS = {"lcmd", "tcld_class", "tcld_l1", "tcld_giou"}


def batch_of(student, teacher, images, targets):
    mine = student.encode(images)
    return Batch(images, targets, mine, TeacherMemory(teacher, 0)(images))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_equal_to_its_teacher_costs_nothing(family, make_model, images, targets):
    student, teacher = make_model(family), make_model(family)
    terms = Clock(Settings(), student, teacher)(batch_of(student, teacher, images, targets))
    assert set(terms) == TERMS
    for name, value in terms.items():
        assert abs(value.item()) < 1e-6, name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["bernoulli_kl", "softmax_kl"])
def test_each_term_reaches_the_student_and_none_the_teacher(
    family, kind, make_model, images, targets
):
    student, teacher = make_model(family), make_model(family, "edge-small", seed=1)
    teacher.network.requires_grad_(requires_grad=False)
    method = Clock(Settings(class_loss=kind), student, teacher)
    before = {k: v.clone() for k, v in teacher.network.state_dict().items()}
    for name in sorted(TERMS):
        student.network.zero_grad()
        method(batch_of(student, teacher, images, targets))[name].backward()
        norm = sum(p.grad.abs().sum() for p in student.network.parameters() if p.grad is not None)
        assert norm > 0, name
    assert all(p.grad is None for p in teacher.network.parameters())
    assert not teacher.network.training
    for key, value in teacher.network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_the_adapter_is_trained_and_the_teacher_is_no_part_of_the_method(make_model):
    method = Clock(Settings(), make_model(), make_model(preset="edge-small"))
    assert {n for n, _ in method.named_parameters()} == {"adapter.weight", "adapter.bias"}
    same = Clock(Settings(), make_model(), make_model())
    assert not list(same.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_order_of_objects_does_not_matter(family, make_model, images, targets):
    student, teacher = make_model(family), make_model(family, "edge-small", seed=1)
    method = Clock(Settings(), student, teacher)
    swapped = [Targets(t.labels.flip(0), t.boxes.flip(0), t.ignored) for t in targets]
    one = method(batch_of(student, teacher, images, targets))
    two = method(batch_of(student, teacher, images, swapped))
    for name in TERMS:
        assert one[name].item() == pytest.approx(two[name].item(), rel=1e-4), name


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_slots_change_nothing(family, make_model, images, targets):
    """An image alone and in a batch whose other image has more objects: the same answers."""
    from edgedetr.distill.target_queries import target_queries

    model = make_model(family)

    def answers(images, targets):
        queries = target_queries(targets)
        content = model.label_content(queries.labels, queries.boxes)
        memory = model.encode(images)
        return model.decode(memory, queries.with_content(content))

    with torch.no_grad():
        alone, padded = answers(images[1:], targets[1:]), answers(images, targets)
    torch.testing.assert_close(alone.logits[:, 0, 0], padded.logits[:, 1, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alone.boxes[:, 0, 0], padded.boxes[:, 1, 0], atol=1e-5, rtol=1e-4)


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


@pytest.mark.parametrize(("choice", "wrong"), [("groups", 0), ("temperature", 0.0)])
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
    assert all(v.isfinite() and v > 0 for v in terms.values())
