import re

import pytest
import torch
from safetensors.torch import save_file

from edgedetr.distill.detectors import detector
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.distill.weights.initial import model_from
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec(input_hw=(64, 96), class_names=("Car", "Pedestrian", "Cyclist"))


def test_a_checkpoint_of_another_preset_is_refused(teacher):
    with pytest.raises(
        ArtifactError, match="holds d_fine/edge-small, the config wants d_fine/edge"
    ):
        model_from(str(teacher), "d_fine", "edge-tiny", SPEC)


def test_training_starts_from_a_checkpoint(tmp_path, make_model):
    model = make_model(seed=9)
    save_model(tmp_path / "init.safetensors", model, command="a test")
    init = str(tmp_path / "init.safetensors")
    started = model_from(init, "d_fine", "edge-tiny", SPEC)
    for key, value in model.network.state_dict().items():
        assert torch.equal(started.network.state_dict()[key], value), key


def test_a_student_starts_from_a_detector_in_transformers_naming(tmp_path, capsys):
    tensors = detector("rt_detr_v2").build("edge-tiny", 80).state_dict()
    save_file({n: t.clone() for n, t in tensors.items()}, tmp_path / "w.safetensors")
    student = model_from(str(tmp_path / "w.safetensors"), "rt_detr_v2", "edge-tiny", SPEC)
    assert re.search(r"fills \d+ of the student's \d+ tensors", capsys.readouterr().out)
    name = "model.encoder.lateral_convs.0.conv.weight"
    assert torch.equal(student.network.state_dict()[name], tensors[name])
    with pytest.raises(ArtifactError, match="train one with"):
        model_from("missing.safetensors", "rt_detr_v2", "edge-tiny", SPEC)
