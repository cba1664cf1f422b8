from itertools import pairwise

import pytest
import torch
from torchvision.ops import box_convert

from edgedetr.distill.config import MethodConfig
from edgedetr.distill.methods import method
from edgedetr.distill.training.adapters import IMAGES, first_batches, fit_adapters
from edgedetr.distill.training.distillation_model import Trainee
from edgedetr.distill.training.objective import distillation_of
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch, Pyramid


@pytest.fixture
def trained(make_model):
    """Makes a student and what it trains with."""

    def make(name, family="d_fine"):
        student, teacher = make_model(family), make_model(family, "edge-small", seed=1)
        config = MethodConfig(name, 1.0, 0.0, method(name).Settings())
        return Trainee(student, distillation_of([config], student, teacher), TeacherMemory(teacher))

    return make


def linear_batch(widths, targets, maps, seed):
    """A batch whose teacher's levels are linear maps of the student's."""
    generator = torch.Generator().manual_seed(seed)
    grids = ((8, 12), (4, 6), (2, 3))
    mine = [torch.randn(len(targets), widths[0], *g, generator=generator) for g in grids]
    theirs = [torch.einsum("dc,bchw->bdhw", m, x) + 1 for m, x in zip(maps, mine, strict=True)]
    return Batch(None, targets, *(Pyramid(tuple(levels), (64, 96)) for levels in (mine, theirs)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["clock", "fgd", "drkd"])
def test_the_adapters_of_levels_find_what_the_student_has_of_its_teacher(trained, targets, name):
    trainee = trained(name)
    maps = torch.randn(3, 128, 96, generator=torch.Generator().manual_seed(0)) / 96**0.5
    seen, held_out = (linear_batch((96, 128), targets * n, maps, n) for n in (64, 2))

    def errors():
        with torch.no_grad():
            pairs = trainee.distillation.methods[name].levels(held_out)
        return [(p.student - p.teacher).square().mean().item() for p in pairs]

    assert min(errors()) > 0.5
    trainee.distillation.fit([seen])
    assert max(errors()) < 0.01


def test_the_imitation_of_regions_starts_nearer_too(trained, targets):
    trainee = trained("g_detkd", "faster_rcnn").train()
    images = torch.rand(8, 3, 64, 96)
    method = trainee.distillation.methods["g_detkd"]

    def loss():
        with torch.no_grad():
            pyramid, theirs = trainee.encode(images), trainee.teacher_memory(images)
            boxes = [box_convert(t.boxes, "cxcywh", "xyxy") for t in targets * 4]
            taught = method.teacher.classify_regions(theirs, boxes).features
            return method.imitation(pyramid.levels, boxes, taught).item()

    before = loss()
    fit_adapters(trainee, [(images, targets * 4)])
    assert loss() < 0.75 * before


def test_fitting_leaves_the_student_as_it_was(trained, images, targets):
    trainee = trained("clock")
    trainee.eval()
    before = {name: tensor.clone() for name, tensor in trainee.network.state_dict().items()}
    fit_adapters(trainee, [(images, targets)])
    assert not trainee.training
    for name, tensor in trainee.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_run_without_a_teacher_has_nothing_to_fit(make_model):
    student = make_model()
    config = MethodConfig("none", 1.0, 0.0, method("none").Settings())
    fit_adapters(Trainee(student, distillation_of([config], student, None)), iter(()))


def test_the_first_batches_are_a_runs_first_images():
    data = FakeInputs(70)
    batches = list(first_batches(data, 24, torch.device("cpu")))  # type: ignore[arg-type]
    assert [len(images) for images, _ in batches] == [24, 24, 16]
    assert sum(len(images) for images, _ in batches) == IMAGES
    values = torch.cat([images for images, _ in batches]).flatten().tolist()
    assert all(b - a == 1 for a, b in pairwise(values))


class FakeInputs:
    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, item):
        epoch, index = item
        assert epoch == 0
        return torch.full((1, 1, 1), float(index)), FakeTargets()


class FakeTargets:
    changes = ()

    def to(self, _device):
        return self
