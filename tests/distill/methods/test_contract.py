"""What every method must hold for every pair of families that it takes, found by listing both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torchvision.ops import box_area, box_convert

from edgedetr.distill.config import MethodConfig
from edgedetr.distill.methods import method, supported_pairs
from edgedetr.distill.training.gradient_balance import gradient_norm
from edgedetr.distill.training.objective import Distillation, distillation_of
from edgedetr.distill.types import Batch, Targets
from edgedetr.runtime.plugins import names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgedetr.distill.model import Model

DISTILLING = [n for n in names("edgedetr.distill.methods") if method(n).NEEDS_TEACHER]
PAIRS = [(name, *pair) for name in DISTILLING for pair in supported_pairs(name)]
every_pair = pytest.mark.parametrize(("name", "student", "teacher"), PAIRS)
SELDOM = ("corners",)
"""Terms that are off unless they are asked for."""

HELPERS = ("modules",)
"""Terms that train what a method has beside the student."""


@pytest.fixture(scope="module")
def models(make_model: Callable[..., Model]) -> Callable[[str, str], Model]:
    """Gives one student and one teacher of each family, made once."""
    made: dict[tuple[str, str], Model] = {}

    def model(family: str, role: str) -> Model:
        if (family, role) not in made:
            preset, seed = {"student": ("edge-tiny", 0), "teacher": ("edge-small", 1)}[role]
            made[family, role] = make_model(family, preset, seed)
        made[family, role].network.zero_grad()
        return made[family, role]

    return model


def step(
    name: str, student: Model, teacher: Model, images: torch.Tensor, targets: Sequence[Targets]
) -> tuple[Distillation, dict[str, Any]]:
    """Build a method and take its terms on a batch, at the second step: queues are filled then."""
    torch.manual_seed(0)
    config = MethodConfig(name, 1.0, 0.0, method(name).Settings())
    distillation = distillation_of([config], student, teacher)
    with torch.no_grad():
        target = teacher.encode(images)
    batch = Batch(images, targets, student.encode(images), target)
    distillation(batch, {})
    return distillation, distillation(batch, {})


def found_objects(pupil: Model, images: torch.Tensor) -> list[Targets]:
    """Call the largest box that an untrained student finds in each image an object.

    Some methods teach it nothing before it finds one.
    """
    with torch.no_grad():
        boxes = pupil.regions(pupil.encode(images)).boxes
    whole = [each.clamp(0, 1) for each in boxes]
    largest = [each[box_area(each).argmax()][None] for each in whole]
    return [
        Targets(torch.zeros(1).long(), box_convert(box, "xyxy", "cxcywh"), torch.zeros(0, 4))
        for box in largest
    ]


@every_pair
def test_each_term_trains_the_student_and_none_the_teacher(
    name, student, teacher, models, images, targets
):
    pupil, master = models(student, "student"), models(teacher, "teacher")
    truth = [
        Targets(torch.cat([a.labels, b.labels]), torch.cat([a.boxes, b.boxes]), b.ignored)
        for a, b in zip(targets, found_objects(pupil, images), strict=True)
    ]
    distillation, terms = step(name, pupil, master, images, truth)
    named: Any = distillation.methods[name]
    assert tuple(terms) == tuple(f"{name}_{term}" for term in named.terms)
    for term, value in terms.items():
        assert value.isfinite(), term
        if not term.endswith(SELDOM):
            assert value > 0, term
            trained = distillation if term.endswith(HELPERS) else pupil.network
            assert gradient_norm(value, [*trained.parameters()]) > 0, term
    torch.stack([*terms.values()]).sum().backward()
    assert all(p.grad is None for p in master.network.parameters())
    own_ids = {id(p) for p in pupil.network.parameters()}
    beside = {id(p) for p in distillation.parameters()}
    assert not beside & {id(p) for p in master.network.parameters()}
    assert not beside & own_ids, "a helper would ship with the student"


@every_pair
def test_images_without_objects_give_finite_gradients(
    name, student, teacher, models, images, make_targets
):
    pupil, master = models(student, "student"), models(teacher, "teacher")
    distillation, terms = step(name, pupil, master, images, [make_targets()] * 2)
    assert all(value.isfinite() for value in terms.values())
    total = torch.stack([*terms.values()]).sum()
    if total.requires_grad:
        total.backward()
    for parameter in (*pupil.network.parameters(), *distillation.parameters()):
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_every_method_takes_the_pairs_that_its_paper_names():
    queries = {
        "dab_detr", "deformable_detr", "dino", "rt_detr", "rt_detr_v2", "d_fine", "deimv2"
    }  # fmt: skip
    for family in queries:
        assert ("clock", family, family) in PAIRS
        assert ("kd_detr", family, family) in PAIRS
        assert ("g_detkd", family, "faster_rcnn") in PAIRS
    assert ("kd_detr", "faster_rcnn", "dino") in PAIRS
    for family in ("faster_rcnn", "retinanet", "fcos"):
        assert ("g_detkd", family, "faster_rcnn") in PAIRS
    for family in ("faster_rcnn", "retinanet"):
        assert ("drkd", family, family) in PAIRS
