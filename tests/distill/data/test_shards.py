import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

from edgedetr.distill import recipe
from edgedetr.distill.data import open_dataset, split_images
from edgedetr.distill.data.shards import read, survey
from edgedetr.distill.dataset_shards import write_shards
from edgedetr.distill.labels.shard_files import Member
from edgedetr.distill.training import network_inputs
from edgedetr.runtime.errors import DataError

CLASSES = ("Car", "Pedestrian", "Cyclist")


@pytest.fixture
def shards(kitti, tmp_path):
    """The six frames of `kitti`, one in each shard."""
    write_shards(kitti, tmp_path / "shards", "kitti", 1)
    return tmp_path / "shards"


@pytest.mark.parametrize("scheme", ["", "file://", "memory://shards"])
def test_frames_are_those_of_the_data_set(kitti, shards, scheme):
    root = f"{scheme}{shards}"
    if scheme.startswith("memory"):
        write_shards(kitti, root, "kitti", 1)
    for split in ("train", "val"):
        ours = open_dataset("auto", root, split, CLASSES)
        theirs = open_dataset("kitti", kitti, split, CLASSES)
        assert ours.ids == theirs.ids
        for index in range(len(theirs)):
            np.testing.assert_array_equal(ours[index].frame.image, theirs[index].frame.image)
            np.testing.assert_array_equal(ours.truths[index].boxes, theirs.truths[index].boxes)
            np.testing.assert_array_equal(ours.truths[index].labels, theirs.truths[index].labels)


def trained(config, out):
    recipe.train(config, out, "a command")
    return (out / "student.safetensors").read_bytes()


def test_a_run_on_shards_goes_on_within_an_epoch_with_the_same_result(
    config, shards, tmp_path, monkeypatch, interrupt
):
    """The order is that of an epoch over shards, whatever the workers are, also after a kill."""
    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", 0)
    data = replace(config.data, root=str(shards), format="shards")
    config = replace(config, data=data, epochs=2, save_every_steps=1, batch_size=1)
    whole = trained(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        recipe.train(config, tmp_path / "killed", "a command", watchers=[interrupt(5)])
    moved = tmp_path / "elsewhere"
    shutil.copytree(shards, moved)
    config = replace(config, data=replace(data, workers=2, root=f"file://{moved}"))
    assert trained(config, tmp_path / "killed") == whole


def test_a_damaged_picture_is_skipped_and_counted_while_a_run_lasts(
    config, shards, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", 0)
    data = replace(config.data, root=str(shards), format="shards")
    config = replace(config, data=data, epochs=2)
    tar = shards / "train-000001.tar"
    path = read(shards, "train").frames[1].path
    assert isinstance(path, Member)
    broken = bytearray(tar.read_bytes())
    broken[path.offset + 50] ^= 1
    tar.write_bytes(broken)
    metrics = recipe.train(config, tmp_path / "run", "a command")
    assert metrics["skipped_pictures"] == 1
    line = "train-000001.tar/000001.png: its bytes are not those of the index"
    assert capsys.readouterr().err.count(line) == 1
    with pytest.raises(DataError, match=line):
        recipe.train(replace(config, data=replace(data, most_skipped=0)), tmp_path / "x", "c")
    assert [line in problem for problem in survey(shards, decode=True).problems] == [True]


def test_a_missing_shard_is_one_line_before_training(shards):
    (shards / "train-000002.tar").unlink()
    with pytest.raises(DataError, match=r"train-000002\.tar: no such file"):
        open_dataset("shards", shards, "train", CLASSES)
    assert survey(shards).frames == 5


def test_a_split_that_is_not_there_names_the_nearest(shards):
    with pytest.raises(DataError, match=r"no split 'vall'; did you mean 'val'"):
        open_dataset("shards", shards, "vall", CLASSES)


def test_files_are_wanted_where_there_are_none(shards):
    with pytest.raises(DataError, match="lie in tar shards"):
        split_images(shards, "val")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hw", [1], "not enough values"),
        ("offset", -1, "wanted a name, a place and a size"),
        ("objects", [{"class": "", "box": [0, 0, 1, 1]}], "class '', wanted printable text"),
        ("objects", [{"class": "Car", "box": [0, 0, 1, None]}], "None, wanted finite numbers"),
        ("file", None, "wanted a name"),
    ],
)
def test_a_bad_entry_is_one_line(shards, key, value, message):
    path = shards / "val-000000.index.json"
    index = json.loads(path.read_text())
    index["frames"][0][key] = value
    path.write_text(json.dumps(index))
    [problem] = read(shards, "val").problems
    assert "val-000000.index.json: frame 1: " in problem
    assert message in problem


def test_paths_of_members_are_paths(shards):
    path = read(shards, "train").frames[0].path
    assert isinstance(path, Member)
    assert path.resolve().name == "000000.png"
    again = pickle.loads(pickle.dumps(path))  # noqa: S301 - just made
    assert (again, again.offset, again.hw) == (path, path.offset, path.hw)
