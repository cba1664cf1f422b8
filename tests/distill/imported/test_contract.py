import pytest
import torch

from edgedetr.distill import imported
from edgedetr.distill.config import StudentConfig
from edgedetr.distill.detectors import decodes_queries, detector, importable_families, trains
from edgedetr.distill.methods import method
from edgedetr.distill.training.preflight import check_names
from edgedetr.distill.types import Pyramid
from edgedetr.distill.weights.importing import read_model
from edgedetr.runtime.errors import UnknownNameError, UsageError
from edgedetr.runtime.plugins import names

FAMILIES = names(imported.__name__)


def test_each_of_them_can_be_imported():
    assert set(FAMILIES) < set(importable_families())


@pytest.mark.parametrize("family", FAMILIES)
def test_its_levels_are_grids_of_its_width(family, foreign):
    model = read_model(foreign(family))
    pyramid = model.encode(torch.rand(2, 3, 64, 96))
    assert isinstance(pyramid, Pyramid)
    assert pyramid.hw == (64, 96)
    for level in pyramid.levels:
        batch, width, height, across = level.shape
        assert (batch, width) == (2, model.width)
        assert height * 96 == across * 64
    with torch.no_grad():
        first, second = (model.encode(x).levels[0] for x in (torch.zeros(1, 3, 64, 96), _DOT))
    moved = (first - second).abs().sum((0, 1))
    assert moved.argmax() < moved.shape[1]  # in the first row, as the dot


_DOT = torch.zeros(1, 3, 64, 96)
_DOT[..., :12, :12] = 1


@pytest.mark.parametrize("family", FAMILIES)
def test_it_teaches_features_and_answers_no_queries(family):
    module = detector(family)
    student = detector("d_fine")
    assert not decodes_queries(module)
    assert method("fgd").supports(student, module)
    assert not method("kd_detr").supports(student, module)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_refused_as_a_student(family):
    assert not trains(detector(family))
    with pytest.raises(UnknownNameError, match=f"{family} has no presets: it comes imported"):
        check_names(StudentConfig(family, "edge-tiny"), "")
    with pytest.raises(UsageError, match=f"{family} detects and teaches, and is not trained here"):
        check_names(StudentConfig(family, "imported", init="a.safetensors"), "")
