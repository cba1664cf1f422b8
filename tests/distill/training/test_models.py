from dataclasses import replace

import pytest
from safetensors.torch import save_file

from edgedetr.distill.config import StudentConfig, TeacherConfig
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
