from dataclasses import replace

import pytest
from safetensors.torch import save_file

from edgedetr.distill.config import StudentConfig
from edgedetr.distill.networks.backbones import backbone_of
from edgedetr.distill.networks.fake_quantization import Quantization, QuantizedLayer
from edgedetr.distill.teacher_config import TeacherConfig, TeacherInputConfig
from edgedetr.distill.training.models import (
    inherited,
    open_student,
    open_teacher,
    report_inputs,
)
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.runtime.errors import ArtifactError

CLASSES = ("Car", "Pedestrian", "Cyclist")
LAYER = QuantizedLayer("a.convolution", "a.normalization", 0.01)
QUANTIZATION = Quantization((LAYER,), "", "", "mse", 99.99, 4, "")


def student_config(**settings):
    return StudentConfig("rt_detr_v2", "edge-tiny", (64, 96), **settings)


def test_a_teacher_of_other_classes_is_refused(teacher):
    other = TeacherConfig(str(teacher), (("Car",), ("Van",)))
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
    teacher = open_teacher(TeacherConfig(path, tuple((name,) for name in CLASSES)))
    assert teacher is not None
    assert teacher.quantization is None
    student = replace(config.student, init=path)
    assert open_student(student, CLASSES).quantization is None


def test_an_unknown_class_is_named_with_the_nearest(teacher):
    with pytest.raises(ArtifactError, match=r"not car \(did you mean 'Car' for 'car'\?\)"):
        open_teacher(TeacherConfig(str(teacher), (("car",), ("Pedestrian",))))


def test_a_teacher_gets_the_input_that_the_config_says(teacher):
    wanted = TeacherInputConfig(input_hw=(96, 64), mean=(0.5,) * 3, std=(0.25,) * 3)
    classes = (("Pedestrian", "Cyclist"), ())
    found = open_teacher(TeacherConfig(str(teacher), classes, wanted))
    assert found is not None
    assert (found.spec.input_hw, found.spec.mean, found.spec.std) == (
        (96, 64),
        (0.5,) * 3,
        (0.25,) * 3,
    )
    assert found.num_classes == 2
    assert found.known_classes == (0,)


def test_a_start_takes_the_mean_and_std_of_its_weights(tmp_path, make_model, capsys):
    spec = replace(make_model().spec, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    model = make_model("rt_detr_v2", spec=spec)
    save_model(tmp_path / "w.safetensors", model, command="a test")
    started = student_config(init=str(tmp_path / "w.safetensors"))
    assert open_student(started, CLASSES).spec.mean == spec.mean
    capsys.readouterr()
    other = replace(started, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert open_student(other, CLASSES).spec.std == (1.0,) * 3
    assert "are not those that" in capsys.readouterr().err
    fresh = open_student(student_config(), CLASSES)
    heir = inherited(fresh, model, student_config(inherit=True))
    assert (heir.spec.mean, heir.spec.std) == (spec.mean, spec.std)
    assert inherited(fresh, model, student_config()) is fresh


def test_inputs_that_differ_are_said_in_one_line(make_model, capsys):
    spec = make_model().spec
    report_inputs(spec, spec)
    assert capsys.readouterr().err == ""
    report_inputs(spec, replace(spec, input_hw=(640, 640), mean=(0.5,) * 3))
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "size 640 x 640 letterbox (student 64 x 96 letterbox), mean (0.5, 0.5, 0.5)" in error


def test_a_backbone_says_what_it_was_trained_with_or_is_warned_of(tmp_path, capsys):
    wanted = replace(student_config(), preset="r18")
    backbone = backbone_of(open_student(wanted, CLASSES).network)
    save_file(backbone.state_dict(), tmp_path / "w.safetensors")
    wanted = replace(wanted, backbone_weights=str(tmp_path / "w.safetensors"))
    assert open_student(wanted, CLASSES).spec.mean == (0.0,) * 3
    assert "says its mean and std" in capsys.readouterr().err
    config = '{"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}'
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    assert open_student(wanted, CLASSES).spec.std == (0.25,) * 3
    assert capsys.readouterr().err == ""
