"""What every method of shared queries must hold, for every detection transformer."""

from typing import Any

import pytest
import torch

from edgedetr.distill.detectors import decodes_queries, detector
from edgedetr.distill.losses.distillation_points import target_queries
from edgedetr.distill.methods import clock, kd_detr
from edgedetr.distill.model import new_model
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch, Targets
from edgedetr.runtime.errors import SettingsError
from edgedetr.runtime.plugins import names
from edgedetr.runtime.spec import ModelSpec

FAMILIES = [f for f in names("edgedetr.distill.detectors") if decodes_queries(detector(f))]
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "clock": (clock, {"teacher_queries": True, "random_queries": 7}),
    "kd_detr": (kd_detr, {"point_share": 0.2}),
}
every_family = pytest.mark.parametrize("family", FAMILIES)
every_method = pytest.mark.parametrize("name", METHODS)


def has_corners(model):
    return hasattr(model.network.config, "max_num_bins")


def built(name, student, teacher, **choices):
    module, settings = METHODS[name]
    return module.build(module.Settings(**settings, **choices), student, teacher)


def batch_of(student, teacher, images, targets):
    return Batch(images, targets, student.encode(images), TeacherMemory(teacher)(images))


@every_method
@every_family
def test_a_student_equal_to_its_teacher_costs_nothing(name, family, make_model, images, targets):
    student, teacher = make_model(family), make_model(family)
    corners = 1.5 * has_corners(student)
    method = built(name, student, teacher, layers="paired", corner_weight=corners)
    terms = method(batch_of(student, teacher, images, targets))
    assert tuple(terms) == method.terms
    for key, value in terms.items():
        assert abs(value.item()) < 1e-5, key


@every_method
@every_family
def test_each_term_reaches_the_student_and_none_the_teacher(
    name, family, make_model, images, targets
):
    student, teacher = make_model(family), make_model(family, "edge-small", seed=1)
    corners = 1.5 * has_corners(student)
    method = built(name, student, teacher, corner_weight=corners)
    before = {k: v.clone() for k, v in teacher.network.state_dict().items()}
    batch = batch_of(student, teacher, images, targets)
    batch.memory.tokens.retain_grad()
    terms = method(batch)
    for key, value in terms.items():
        if key.endswith("corners") and not corners:
            assert value == 0
            continue
        batch.memory.tokens.grad = None
        student.network.zero_grad()
        value.backward(retain_graph=True)
        assert batch.memory.tokens.grad.abs().sum() > 0, key
        grads = [p.grad for p in student.network.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in grads), key
    assert all(p.grad is None for p in teacher.network.parameters())
    assert not teacher.network.training
    for key, value in teacher.network.state_dict().items():
        assert torch.equal(value, before[key]), key


@every_method
def test_the_class_term_moves_the_student_and_not_the_target(name, make_model, images, targets):
    """With the divergence's arguments swapped the student's class logits would get no gradient."""
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    for kind in ("bernoulli_kl", "softmax_kl"):
        method = built(name, student, teacher, class_loss=kind)
        terms = method(batch_of(student, teacher, images, targets))
        chosen = [v for k, v in terms.items() if k.endswith("class")]
        assert all(v > 0 for v in chosen)
        student.network.zero_grad()
        torch.stack(chosen).sum().backward()
        heads = [p for n, p in student.network.named_parameters() if "decoder.class_embed" in n]
        assert heads
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in heads)


@every_method
@every_family
def test_the_order_of_objects_does_not_matter(name, family, make_model, images, targets):
    student, teacher = make_model(family), make_model(family, "edge-small", seed=1)
    method = built(name, student, teacher)
    swapped = [Targets(t.labels.flip(0), t.boxes.flip(0), t.ignored) for t in targets]
    found = []
    for truth in (targets, swapped):
        torch.manual_seed(5)
        with torch.no_grad():
            found.append(method(batch_of(student, teacher, images, truth)))
    for key in method.terms:
        assert found[0][key].item() == pytest.approx(found[1][key].item(), rel=1e-4), key


@every_family
def test_padding_slots_change_nothing(family, make_model, images, targets):
    """An image alone and in a batch whose other image has more objects: the same answers."""
    model = make_model(family)

    def answers(images, targets):
        memory = model.encode(images)
        return model.decode(memory, target_queries(targets).queries(model, memory))

    with torch.no_grad():
        alone, padded = answers(images[1:], targets[1:]), answers(images, targets)
    torch.testing.assert_close(alone.logits[:, 0, 0], padded.logits[:, 1, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alone.boxes[:, 0, 0], padded.boxes[:, 1, 0], atol=1e-5, rtol=1e-4)


@every_method
def test_points_in_ignored_areas_cost_nothing(name, make_model, make_targets, images):
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    everywhere = make_targets(ignored=[(0.5, 0.5, 4.0, 4.0)])
    method = built(name, student, teacher)
    ignored = method(batch_of(student, teacher, images, [everywhere] * 2))
    assert all(v == 0 for k, v in ignored.items() if k != "lcmd")
    plain = method(batch_of(student, teacher, images, [make_targets()] * 2))
    assert all(v > 0 for k, v in plain.items() if not k.endswith("corners"))
    torch.stack([*ignored.values()]).sum().backward()
    for parameter in student.network.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@every_method
def test_families_of_both_sides_may_differ(name, make_model, images, targets):
    student, teacher = make_model("d_fine"), make_model("rt_detr_v2", "edge-small", seed=1)
    terms = built(name, student, teacher)(batch_of(student, teacher, images, targets))
    assert all(v > 0 for k, v in terms.items() if not k.endswith("corners"))


@every_method
def test_corners_are_refused_where_the_pair_has_none_to_compare(name, make_model):
    fine, coarse = make_model("d_fine"), make_model("rt_detr_v2")
    for student, teacher in ((fine, coarse), (coarse, fine), (coarse, coarse)):
        with pytest.raises(SettingsError, match=r"rt_detr_v2 (has )?none"):
            built(name, student, teacher, corner_weight=0.5)
    other = make_model("d_fine")
    other.network.config.max_num_bins = 16
    with pytest.raises(SettingsError, match=r"d_fine has 32 bins .*, d_fine 16 bins"):
        built(name, fine, other, corner_weight=0.5)


@every_method
def test_a_class_loss_that_is_blind_to_a_single_class_is_refused(name):
    spec = ModelSpec(input_hw=(64, 96), class_names=("Car",))
    one = new_model("d_fine", "edge-tiny", spec)
    with pytest.raises(SettingsError, match="zero with a single class"):
        built(name, one, one, class_loss="softmax_kl")
    assert built(name, one, one).terms
