from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from edgedetr.bench.study.frames import splits_of, unpack
from edgedetr.bench.study.training import score
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


@pytest.mark.parametrize(("shift", "wanted"), [(0.0, 100), (0.35 * 24 / 96, 0)])
def test_whoever_says_the_truth_scores_100(packed, shift, wanted):
    """Boxes that are moved by 0.35 of their width have an IoU of 0.65 / 1.35 = 0.48."""
    spec, frames = unpack(packed)
    test = frames["test"]

    def predict(_, images):
        logits = torch.full((len(images), 1, 3), -9.0)
        logits[..., 0] = 9.0
        moved = torch.tensor([shift, 0, 0, 0])
        return logits, torch.stack([t.boxes for t in test.targets]) + moved

    model: Any = SimpleNamespace(spec=spec, network=None, module=SimpleNamespace(predict=predict))
    found = score(model, test, torch.device("cpu"))
    assert found == {"ap": wanted, "ap50": wanted, "ap75": wanted}
