import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from edgedetr.distill.config import StudentConfig, TeacherConfig
from edgedetr.distill.detectors import detector
from edgedetr.distill.networks.backbones import backbone_of
from edgedetr.distill.networks.fake_quantization import Quantization, QuantizedLayer
from edgedetr.distill.training.models import open_student, open_teacher
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.runtime.errors import ArtifactError

CLASSES = ("Car", "Pedestrian", "Cyclist")
LAYER = QuantizedLayer("a.convolution", "a.normalization", 0.01)
QUANTIZATION = Quantization((LAYER,), "", "", "mse", 99.99, 4, "")


def student_config(**settings):
    return StudentConfig("rt_detr_v2", "edge-tiny", (64, 96), **settings)


def test_a_teacher_of_other_classes_is_refused(teacher):
    other = TeacherConfig(str(teacher), ("Car", "Van"))
    with pytest.raises(
        ArtifactError, match=r"knows the classes Car, Pedestrian, Cyclist, not Van; .*\[class_map\]"
    ):
        open_teacher(other)


def test_a_checkpoint_of_another_preset_is_refused(config, teacher):
    student = replace(config.student, init=str(teacher))
    with pytest.raises(
        ArtifactError, match="holds d_fine/edge-small, the config wants d_fine/edge"
    ):
        open_student(student, CLASSES)


def test_training_starts_from_a_checkpoint(config, tmp_path, make_model):
    model = make_model(seed=9)
    save_model(tmp_path / "init.safetensors", model, command="a test")
    init = str(tmp_path / "init.safetensors")
    started = open_student(replace(config.student, init=init), CLASSES)
    for key, value in model.network.state_dict().items():
        assert torch.equal(started.network.state_dict()[key], value), key


def test_a_student_starts_from_a_detector_in_transformers_naming(tmp_path, capsys):
    tensors = detector("rt_detr_v2").build("edge-tiny", 80).state_dict()
    save_file({n: t.clone() for n, t in tensors.items()}, tmp_path / "w.safetensors")
    student = open_student(student_config(init=str(tmp_path / "w.safetensors")), CLASSES)
    assert re.search(r"fills \d+ of the student's \d+ tensors", capsys.readouterr().out)
    name = "model.encoder.lateral_convs.0.conv.weight"
    assert torch.equal(student.network.state_dict()[name], tensors[name])
    with pytest.raises(ArtifactError, match="train one with"):
        open_student(student_config(init="missing.safetensors"), CLASSES)


def test_a_student_starts_from_backbone_weights(tmp_path):
    wanted = replace(student_config(), preset="r18")
    backbone = backbone_of(open_student(wanted, CLASSES).network)
    save_file(backbone.state_dict(), tmp_path / "w.safetensors")
    for weights, frozen in (("", False), (str(tmp_path / "w.safetensors"), True)):
        network = open_student(replace(wanted, backbone_weights=weights), CLASSES).network
        kinds = {type(m).__name__ for m in backbone_of(network).modules()}
        assert ("FrozenBatchNorm2d" in kinds) is frozen
        assert ("BatchNorm2d" in kinds) is not frozen


def test_a_teacher_that_was_trained_for_int8_answers_in_float(config, make_model, tmp_path):
    model = replace(make_model(), quantization=QUANTIZATION)
    save_model(tmp_path / "teacher.safetensors", model, command="a test")
    path = str(tmp_path / "teacher.safetensors")
    teacher = open_teacher(TeacherConfig(path, CLASSES))
    assert teacher is not None
    assert teacher.quantization is None
    student = replace(config.student, init=path)
    assert open_student(student, CLASSES).quantization is None
