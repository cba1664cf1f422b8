"""Values that no spec may hold."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec, spec_from_json

SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))


@pytest.mark.parametrize("values", [{"mean": [10**400, 0, 0]}, {"mean": [0, float("nan"), 0]}])
def test_numbers_that_no_float_holds_are_refused(values):
    with pytest.raises(ArtifactError, match=r"mean"):
        spec_from_json(json.dumps(asdict(SPEC) | values), "student.onnx")


@pytest.mark.parametrize(
    "values",
    [
        {"input_hw": [10**400, 8]},
        {"std": [1, float("nan"), 1]},
        {"std": [1, float("inf"), 1]},
        {"class_names": ["Car", "\ud800"]},
        {"class_names": ["Car\nCar", "Van"]},
        {"class_names": ["Car", " "]},
        {"class_names": [""]},
    ],
)
def test_specs_that_nothing_could_be_done_with_are_refused(values):
    name = next(iter(values))
    with pytest.raises(ArtifactError, match=f"{name} of a model spec cannot be|{name}: wanted a"):
        spec_from_json(json.dumps(asdict(SPEC) | values), "student.onnx")
