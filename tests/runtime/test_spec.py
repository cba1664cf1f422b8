"""Values that no spec may hold."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.spec import ModelSpec, spec_from_json, spec_from_toml

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


def test_a_mean_of_pixels_up_to_255_is_refused(tmp_path):
    path = tmp_path / "s.toml"
    text = 'input_hw = [8, 16]\nclass_names = ["Car"]\nmean = [{}]\nstd = [58.4, 57.1, 57.4]\n'
    path.write_text(text.format("123.7, 116.3, 103.5"), encoding="utf-8")
    words = r"s\.toml: mean \[123\.7, .*divide mean and std by 255: mean = \[0\.4851, "
    with pytest.raises(SettingsError, match=words):
        spec_from_toml(path)
    path.write_text(text.format("1.0, 0.5, 0.0"), encoding="utf-8")
    assert spec_from_toml(path).mean == (1.0, 0.5, 0.0)
