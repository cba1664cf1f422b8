"""What every method must hold for every pair of families that it takes, found by listing both."""

from __future__ import annotations

from functools import cache
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
    from edgedetr.distill.types import Features

DISTILLING = [n for n in names("edgedetr.distill.methods") if method(n).NEEDS_TEACHER]
PAIRS = [(name, *pair) for name in DISTILLING for pair in supported_pairs(name)]
every_pair = pytest.mark.parametrize(("name", "student", "teacher"), PAIRS)
SELDOM = ("corners",)
"""Terms that are off unless they are asked for."""

HELPERS = ("modules",)
"""Terms that train what a method has beside the student."""

IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
"""Two pictures of noise."""


class Models:
    """One student and one teacher of each family, and what they make of `IMAGES`, once."""

    def __init__(self, make_model: Callable[..., Model]) -> None:
        self._make = make_model

    @cache  # noqa: B019 - it ends with the module
    def _model(self, family: str, preset: str, seed: int) -> Model:
        return self._make(family, preset, seed)

    def student(self, family: str) -> Model:
        """Give the student of a family, without gradients."""
        model = self._model(family, "edge-tiny", 0)
        model.network.zero_grad()
        return model

    def teacher(self, family: str) -> Model:
        """Give the teacher of a family, without gradients."""
        model = self._model(family, "edge-small", 1)
        model.network.zero_grad()
        return model

    @cache  # noqa: B019
    def memory(self, family: str) -> Features:
        """Give what a teacher hands to its decoder."""
        with torch.no_grad():
            return self.teacher(family).encode(IMAGES)

    @cache  # noqa: B019
    def objects(self, family: str) -> list[Targets]:
        """Give what a student finds."""
        return found_objects(self.student(family), IMAGES)


@pytest.fixture(scope="module")
def models(make_model: Callable[..., Model]) -> Models:
    """The models of every family."""
    return Models(make_model)


def step(
    name: str, student: str, teacher: str, models: Models, targets: Sequence[Targets]
) -> tuple[Distillation, dict[str, Any]]:
    """Build a method and take its terms on a batch, at the second step: queues are filled then."""
    torch.manual_seed(0)
    config = MethodConfig(name, 1.0, 0.0, method(name).Settings())
    pupil = models.student(student)
    distillation = distillation_of([config], pupil, models.teacher(teacher))
    batch = Batch(IMAGES, targets, pupil.encode(IMAGES), models.memory(teacher))
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
def test_each_term_trains_the_student_and_none_the_teacher(name, student, teacher, models, targets):
    truth = [
        Targets(torch.cat([a.labels, b.labels]), torch.cat([a.boxes, b.boxes]), b.ignored)
        for a, b in zip(targets, models.objects(student), strict=True)
    ]
    pupil, master = models.student(student), models.teacher(teacher)
    distillation, terms = step(name, student, teacher, models, truth)
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
    weights = (*pupil.network.parameters(), *distillation.parameters())
    assert all(p.ndim for p in weights), "FSDP splits the first dimension"


@every_pair
def test_images_without_objects_give_finite_gradients(name, student, teacher, models, make_targets):
    pupil = models.student(student)
    distillation, terms = step(name, student, teacher, models, [make_targets()] * 2)
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
