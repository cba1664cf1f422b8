import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedetr.distill.data import open_dataset
from edgedetr.distill.training.run_identity import contents_hash, identity_of
from edgedetr.runtime.errors import ArtifactError, DataError


def identity(config):
    data = config.data
    splits = [
        open_dataset(data.format, Path(data.root), split, data.classes)
        for split in ("train", "val")
    ]
    return identity_of(config.record(), config.weights, *splits)


def difference(config, other):
    found = identity(config)
    return identity(other).difference(found.settings, found.sources)


def test_what_changes_no_weight_makes_no_other_run(config, teacher, tmp_path, monkeypatch):
    config = replace(config, teacher=str(teacher))
    moved = shutil.copytree(config.data.root, tmp_path / "mount" / "moved")
    shutil.copy(teacher, tmp_path / "copy.safetensors")
    monkeypatch.chdir(tmp_path)
    for root in (moved, "mount/moved", "./kitti/../kitti"):
        data = replace(config.data, root=str(root), workers=3)
        same = replace(config, data=data, eval_every=1, teacher="copy.safetensors")
        assert difference(config, same) == ""


@pytest.mark.parametrize(
    ("path", "old", "new", "named"),
    [
        ("training/label_2/000001.txt", "Car", "Pedestrian", "data.train_split: labels was"),
        ("training/label_2/000001.txt", "40.0", "41.0", "data.train_split: labels was"),
        ("training/label_2/000001.txt", "Car", "Van", "data.train_split: labels was"),
        ("training/label_2/000003.txt", "Car", "Cyclist", "data.val_split: labels was"),
        ("ImageSets/train.txt", "000001\n", "", "data.train_split: images was"),
        ("ImageSets/val.txt", "000003\n000004", "000004\n000003", "data.val_split: images was"),
    ],
)
def test_other_labels_or_images_make_another_run(config, tmp_path, path, old, new, named):
    other = shutil.copytree(config.data.root, tmp_path / "other")
    text = (other / path).read_text(encoding="utf-8")
    assert old in text
    (other / path).write_text(text.replace(old, new), encoding="utf-8")
    changed = replace(config, data=replace(config.data, root=str(other)))
    assert difference(config, changed).startswith(named)


@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_an_image_that_was_replaced_makes_another_run(config, place):
    pictures = sorted(Path(config.data.root, "training", "image_2").iterdir())
    noise = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    cv2.imwrite(str(pictures[0]), noise)
    before = identity(config)
    data = bytearray(pictures[0].read_bytes())
    assert len(data) > 3 * 4096
    data[{"start": 1000, "middle": len(data) // 2, "end": -1}[place]] ^= 1
    pictures[0].write_bytes(data)
    found = identity(config).difference(before.settings, before.sources)
    assert found.startswith("data.train_split: pixels of images was ")
    pictures[0].unlink()
    with pytest.raises(DataError, match=rf"{pictures[0].name}: cannot be read: No such file"):
        contents_hash(pictures)


def test_other_weights_make_another_run_whatever_they_are_called(config, teacher):
    config = replace(config, teacher=str(teacher))
    before = identity(config)
    assert difference(config, replace(config, teacher="")).startswith("teacher was ")
    teacher.write_bytes(teacher.read_bytes() + b"\0")
    found = identity(config).difference(before.settings, before.sources)
    assert found.startswith("teacher was ")
    init = replace(config, student=replace(config.student, init=str(teacher)))
    assert difference(config, init).startswith("student.init was '', is ")


def test_a_missing_teacher_is_one_line(config):
    with pytest.raises(ArtifactError, match=r"no checkpoint gone.safetensors; train one with"):
        identity(replace(config, teacher="gone.safetensors"))
