import json
import re

import pytest
import torch
from safetensors.torch import save_file

from edgedetr.distill.config import StudentConfig
from edgedetr.distill.detectors import detector
from edgedetr.distill.training.models import open_student


def config(**student):
    return (
        StudentConfig("rt_detr_v2", "edge-tiny", (64, 96), **student),
        ("Car", "Pedestrian", "Cyclist"),
    )


def saved_by_transformers(folder, names, labels):
    """Weights as transformers saves them: row i of the heads belongs to the class ``names[i]``."""
    torch.manual_seed(3)
    network = detector("rt_detr_v2").build("edge-tiny", len(names))
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.normal_()
    tensors = {n: t.clone() for n, t in network.state_dict().items()}
    kept = {t.data_ptr(): n for n, t in network.state_dict().items() if t.numel()}
    written = {n: t for n, t in tensors.items() if n in kept.values() or not t.numel()}
    assert len(written) < len(tensors)  # of tied tensors one is written
    save_file(written, folder / "w.safetensors", {"format": "pt"})
    if labels is not None:
        (folder / "config.json").write_text(labels, encoding="utf-8")
    return tensors


HEADS = {
    "model.denoising_class_embed.weight": 1,  # a last row for "no class"
    "model.enc_score_head.weight": 0,
    "model.enc_score_head.bias": 0,
    "class_embed.0.weight": 0,
}


def test_class_rows_are_taken_by_name(tmp_path, capsys):
    names = ["bus", "Cyclist", "Car", "truck", "Pedestrian"]
    labels = json.dumps({"id2label": {str(i): name for i, name in enumerate(names)}})
    theirs = saved_by_transformers(tmp_path, names, labels)
    student = open_student(*config(init=str(tmp_path / "w.safetensors")))
    ours = student.network.state_dict()
    for name, more in HEADS.items():
        assert len(ours[name]) == 3 + more
        for row, other in ((0, 2), (1, 4), (2, 1)):  # Car, Pedestrian, Cyclist
            assert torch.equal(ours[name][row], theirs[name][other]), name
        assert torch.equal(ours[name][3:], theirs[name][5:])
    said = capsys.readouterr().out
    assert re.search(r"fills (\d+) of the student's \1 tensors; class rows by name: Car, Ped", said)
    assert "fresh" not in said


def test_a_class_that_the_file_does_not_name_starts_fresh_and_is_named(tmp_path, capsys):
    theirs = saved_by_transformers(
        tmp_path,
        ["Cyclist", "Car", "car"],
        '{"id2label": {"0": "Cyclist", "1": "Car", "2": "car"}}',
    )
    torch.manual_seed(0)
    student = open_student(*config(init=str(tmp_path / "w.safetensors")))
    torch.manual_seed(0)
    fresh = open_student(*config()).network.state_dict()
    ours = student.network.state_dict()
    for name in HEADS:
        assert torch.equal(ours[name][0], theirs[name][1])
        assert torch.equal(ours[name][1], fresh[name][1])
        assert torch.equal(ours[name][2], theirs[name][0])
    said = capsys.readouterr().out
    assert "class rows by name: Car, Cyclist; class rows that start fresh: Pedestrian" in said


@pytest.mark.parametrize(
    "labels",
    [
        None,
        "{",
        "[]",
        "{}",
        '{"id2label": ["Car", "Pedestrian", "Cyclist"]}',
        '{"id2label": {"0": "Car", "2": "Pedestrian", "3": "Cyclist"}}',
        '{"id2label": {"0": "Car", "1": "Pedestrian", "2": "Cyclist", "3": "Van"}}',
        '{"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}',
    ],
)
def test_heads_whose_classes_nothing_names_start_fresh(tmp_path, capsys, labels):
    theirs = saved_by_transformers(tmp_path, ["a", "b", "c"], labels)
    student = open_student(*config(init=str(tmp_path / "w.safetensors")))
    ours = student.network.state_dict()
    assert not any(torch.equal(ours[name], theirs[name]) for name in HEADS)
    name = "model.encoder.lateral_convs.0.conv.weight"
    assert torch.equal(ours[name], theirs[name])
    assert "class rows that start fresh: Car, Pedestrian, Cyclist" in capsys.readouterr().out
