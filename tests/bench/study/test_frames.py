import numpy as np
import pytest
import torch

from edgedetr.bench.study.frames import splits_of, unpack
from edgedetr.distill.data.kitti import open_dataset
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.runtime.errors import ArtifactError


def test_one_of_so_many_frames_tunes_and_does_not_train():
    train, tune = splits_of(7, 3)
    assert (list(train), list(tune)) == ([1, 2, 4, 5], [0, 3, 6])


def test_unpacked_frames_are_those_of_the_data_set(packed, kitti):
    spec, frames = unpack(packed)
    assert {name: len(some) for name, some in frames.items()} == {"train": 6, "tune": 2, "test": 2}
    val = open_dataset(kitti, "val", spec.class_names)
    inputs, found = NetworkInputs(val, spec), frames["test"]
    for index in range(2):
        wanted = inputs[index]
        away = (found.pixels[index].int() - wanted.pixels.int()).abs()
        assert away.float().mean() < 2  # WebP loses a little
        torch.testing.assert_close(found.targets[index].boxes, wanted.targets.boxes)
        assert found.targets[index].labels.tolist() == wanted.targets.labels.tolist()
        np.testing.assert_array_equal(found.truths[index].boxes, val.truths[index].boxes)
        assert found.places[index] == wanted.place


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"x\.npz: no packed frames"):
        unpack(path)
