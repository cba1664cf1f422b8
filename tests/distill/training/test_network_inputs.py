from pathlib import Path

import cv2
import numpy as np
import pytest
from typing_extensions import override

from edgedetr.distill.data import Sample, Truth
from edgedetr.distill.training import network_inputs
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.runtime.spec import ModelSpec
from edgedetr.runtime.types import Frame

SPEC = ModelSpec((64, 96), ("Car",))
SHAPES = ((60, 90), (90, 60), (50, 52), (40, 400))
"""Wide, upright, nearly square, and much wider than any size."""


class Frames:
    """A grey frame of each shape, without objects."""

    class_names: tuple[str, ...] = ("Car",)
    ids = tuple("abcd")
    paths = tuple(map(Path, ids))
    truths = tuple(
        Truth(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.int64),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
            np.zeros((0, 4), np.float32),
        )
        for _ in SHAPES
    )

    def __len__(self):
        return len(SHAPES)

    def __getitem__(self, index):
        return Sample(Frame(np.full((*SHAPES[index], 3), 90, np.uint8)), self.truths[index])


class UnreadFrames(Frames):
    """Frames that nobody may decode."""

    @override
    def __getitem__(self, index):
        raise AssertionError(f"frame {index} was read")


@pytest.fixture
def on_disk(tmp_path, monkeypatch):
    """The frames as files."""
    paths = tuple(tmp_path / f"{name}.png" for name in Frames.ids)
    for path, hw in zip(paths, SHAPES, strict=True):
        cv2.imwrite(str(path), np.full((*hw, 3), 90, np.uint8))
    monkeypatch.setattr(Frames, "paths", paths)


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_each_image_gets_the_size_of_the_nearest_shape(monkeypatch, limit):
    """Also where memory cannot hold them."""
    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", limit)
    inputs = NetworkInputs(Frames(), SPEC, ((64, 96), (96, 64)))
    assert [tuple(inputs[i].pixels.shape[1:]) for i in range(4)] == [
        *((64, 96), (96, 64), (64, 96), (64, 96))
    ]
    assert inputs[1].place.input_hw == (96, 64)


@pytest.mark.usefixtures("on_disk")
def test_the_headers_alone_say_which_size_an_image_gets():
    inputs = NetworkInputs(UnreadFrames(), SPEC, ((64, 96), (96, 64)))
    assert inputs.groups.tolist() == [0, 1, 0, 0]


def test_without_sizes_all_images_have_the_networks_and_none_is_read_for_it():
    assert NetworkInputs(UnreadFrames(), SPEC).groups.tolist() == [0, 0, 0, 0]
    assert NetworkInputs(Frames(), SPEC)[1].pixels.shape == (3, 64, 96)
