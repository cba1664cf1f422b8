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


def test_a_checkpoint_gives_its_class_rows_by_name_and_its_normalization(
    tmp_path, make_model, capsys
):
    """COCO's names in another order: Car is its car or truck, a Pedestrian is nothing it knows."""
    spec = ModelSpec((64, 96), ("truck", "car", "Cyclist"), mean=(0.4, 0.5, 0.6), std=(0.2,) * 3)
    model = make_model(seed=9, spec=spec)
    path = tmp_path / "coco.safetensors"
    save_model(path, model, command="a test")
    names = (("car", "truck"), (), ("Cyclist",))
    started = model_from(str(path), "d_fine", "edge-tiny", SPEC, names)
    name = "model.decoder.class_embed.0.weight"
    mine, theirs = (m.network.state_dict()[name] for m in (started, model))
    assert torch.equal(mine[[0, 2]], theirs[[1, 2]])
    assert not any(torch.equal(mine[1], row) for row in theirs)
    assert (started.spec.mean, started.spec.std) == (spec.mean, spec.std)
    assert started.spec.class_names == SPEC.class_names
    line = capsys.readouterr().out
    assert "class rows by name: Car, Cyclist; class rows that start fresh: Pedestrian" in line
    model_from(str(path), "d_fine", "edge-tiny", SPEC)
    assert 'if Car is its car, set class_map.Car = "car"' in capsys.readouterr().out
