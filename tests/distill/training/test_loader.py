import gc
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typing_extensions import override

from edgedetr.distill.data import Sample, Truth
from edgedetr.distill.training import network_inputs
from edgedetr.distill.training.loader import (
    TrainingLoader,
    one_line_of_workers,
)
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.sampling import EpochOrder
from edgedetr.distill.training.training_inputs import TrainingInputs
from edgedetr.runtime.errors import DataError, EdgeDetrError
from edgedetr.runtime.images import read_image
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec
from edgedetr.runtime.types import Frame


class Frames:
    """Five noisy frames with one object each, read and counted."""

    class_names: tuple[str, ...] = ("Car",)
    ids = tuple("abcde")
    paths = tuple(map(Path, ids))

    def __init__(self):
        self.reads = 0
        self.truths = tuple(self._truth(i) for i in range(5))

    @staticmethod
    def _truth(index):
        return Truth(
            boxes=np.array([[10.0 + index, 5, 30, 25]], np.float32),
            labels=np.zeros(1, np.int64),
            truncation=np.zeros(1, np.float32),
            occlusion=np.zeros(1, np.int64),
            ignored=np.array([[0, 0, 5, 5]], np.float32),
        )

    def __len__(self):
        return 5

    def __getitem__(self, index):
        self.reads += 1
        image = np.random.default_rng(index).integers(0, 256, (50, 100, 3), np.uint8)
        return Sample(Frame(image), self.truths[index])


SPEC = ModelSpec((32, 64), ("Car",), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


def test_normalised_inputs_are_the_runtimes_bit_for_bit():
    frames = Frames()
    inputs = NetworkInputs(frames, SPEC)
    for index in range(5):
        expect = np.empty((3, 32, 64), np.float32)
        Preprocessor(SPEC)(frames[index].frame.image, expect)
        np.testing.assert_array_equal(inputs.normalised(inputs[index].pixels).numpy(), expect)


def test_boxes_are_in_the_networks_frame():
    targets = NetworkInputs(Frames(), SPEC)[0].targets
    # letterbox 50x100 -> 32x64: scale 0.64, no border; (10, 5, 30, 25) of 100 x 50
    torch.testing.assert_close(targets.boxes, torch.tensor([[0.2, 0.3, 0.2, 0.4]]))
    torch.testing.assert_close(targets.ignored, torch.tensor([[0.025, 0.05, 0.05, 0.1]]))


def test_each_image_is_read_once():
    frames = Frames()
    inputs = NetworkInputs(frames, SPEC)
    for _ in range(3):
        for index in range(5):
            inputs[index]
    assert frames.reads == 5


def test_reading_a_split_at_once_gives_what_reading_one_by_one_gives(monkeypatch):
    monkeypatch.setattr(network_inputs, "READ_AHEAD", 2)
    frames = Frames()
    at_once, one_by_one = NetworkInputs(frames, SPEC), NetworkInputs(Frames(), SPEC)
    at_once[3]
    at_once.read()
    assert frames.reads == 5
    for index in range(5):
        torch.testing.assert_close(at_once[index].pixels, one_by_one[index].pixels)
        torch.testing.assert_close(at_once[index].targets.boxes, one_by_one[index].targets.boxes)
    assert frames.reads == 5


def test_a_split_that_memory_cannot_hold_is_not_read_at_once(monkeypatch):
    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", 5 * 3 * 32 * 64 - 1)
    frames = Frames()
    NetworkInputs(frames, SPEC).read()
    assert frames.reads == 0


def test_an_epoch_has_whole_batches_of_different_frames_in_a_seeded_order():
    order = EpochOrder(size=10, batch_size=4, seed=3)
    first = list(order)
    assert [len(b) for b in first] == [4, 4]
    assert len({item.image for batch in first for item in batch}) == 8
    assert list(order) == first
    order.epoch = 1
    assert [[i.image for i in b] for b in order] != [[i.image for i in b] for b in first]
    assert {item.epoch for batch in order for item in batch} == {1}


def test_a_split_smaller_than_a_batch_is_one_batch():
    assert [len(b) for b in EpochOrder(size=3, batch_size=8, seed=0)] == [3]


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_the_same_batches_with_and_without_workers(workers):
    data = TrainingInputs(NetworkInputs(Frames(), SPEC), "strong", seed=0)
    expect = list(TrainingLoader(data, EpochOrder(5, 2, 0), 0).batches(0))
    got = list(TrainingLoader(data, EpochOrder(5, 2, 0), workers).batches(0))
    assert len(got) == 2
    for (images, targets), (wanted, truths) in zip(got, expect, strict=True):
        assert images.shape == (2, 3, 32, 64)
        assert torch.equal(images, wanted)
        for one, two in zip(targets, truths, strict=True):
            assert torch.equal(one.boxes, two.boxes)


def test_every_image_that_flipping_makes_is_given_beside_its_mirror_image():
    data = TrainingInputs(NetworkInputs(Frames(), SPEC), "flip", seed=0)
    batches = list(data.mirrored_too(2))
    assert [len(b) for b in batches] == [4, 4, 2]
    given = torch.cat(batches)
    made = [data[epoch, index][0] for epoch in range(8) for index in range(5)]
    assert all((image == given).flatten(1).all(1).any() for image in made)
    torch.testing.assert_close(batches[0][2:], batches[0][:2].flip(-1), atol=0, rtol=0)


def test_a_letterboxed_image_says_where_it_lies():
    """A picture of 50 x 100 pixels takes the upper half of an input of 64 x 64."""
    spec = ModelSpec(input_hw=(64, 64), class_names=("Car",), resize="letterbox")
    picture = NetworkInputs(Frames(), spec)[0].targets.picture
    assert picture is not None
    assert picture.tolist() == [[0.5, 0.25, 1.0, 0.5]]
    stretched = ModelSpec(input_hw=(64, 64), class_names=("Car",), resize="stretch")
    assert NetworkInputs(Frames(), stretched)[0].targets.picture is None


class Broken(Frames):
    """The fourth frame cannot be read."""

    @override
    def __getitem__(self, index):
        if index == 3:
            raise DataError("d.png: not a whole PNG")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_the_same_one_line_with_and_without_workers(monkeypatch, workers):
    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", 0)
    data = TrainingInputs(NetworkInputs(Broken(), SPEC), "flip", seed=0)
    with pytest.raises(DataError) as caught:
        list(TrainingLoader(data, EpochOrder(5, 5, 0), workers).batches(0))
    assert str(caught.value) == "d.png: not a whole PNG"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_is_skipped_for_the_next_counted_and_said_once(
    monkeypatch, capsys, workers
):
    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", 0)
    data = TrainingInputs(NetworkInputs(Broken(), SPEC), "flip", seed=0)
    whole = TrainingInputs(NetworkInputs(Frames(), SPEC), "flip", seed=0)
    order = EpochOrder(5, 5, 0)
    loader = TrainingLoader(data, order, workers, most_skipped=1)
    [(images, targets)] = loader.batches(0)
    place = [item.image for item in next(iter(EpochOrder(5, 5, 0)))].index(3)
    [(expect, _)] = TrainingLoader(whole, EpochOrder(5, 5, 0), 0).batches(0)
    same = [torch.equal(*pair) for pair in zip(images, expect, strict=True)]
    assert same == [index != place for index in range(5)]
    assert torch.equal(images[place], whole[0, 4][0])  # the frame behind it
    assert len(targets) == 5
    list(loader.batches(1))
    assert loader.skipped == ["d.png: not a whole PNG"]
    assert capsys.readouterr().err.count("skipped: d.png: not a whole PNG\n") == 1


def test_one_broken_picture_too_many_is_one_line(monkeypatch):
    class All(Frames):
        @override
        def __getitem__(self, index):
            if index > 2:
                raise DataError(f"{index}.png: not a whole PNG")
            return super().__getitem__(index)

    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", 0)
    data = TrainingInputs(NetworkInputs(All(), SPEC), "flip", seed=0)
    loader = TrainingLoader(data, EpochOrder(5, 5, 0), 0, most_skipped=1)
    message = r"\d\.png: not a whole PNG; 1 picture before it could not be read either"
    with pytest.raises(DataError, match=message):
        list(loader.batches(0))


def test_no_picture_in_the_place_of_a_broken_one_is_one_line(monkeypatch):
    class Nothing(Frames):
        @override
        def __getitem__(self, index):
            raise DataError(f"{index}.png: not a whole PNG")

    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", 0)
    data = TrainingInputs(NetworkInputs(Nothing(), SPEC), "flip", seed=0)
    with pytest.raises(DataError, match="nor can 4 pictures in its place be read"):
        list(TrainingLoader(data, EpochOrder(5, 5, 0), 0, most_skipped=9).batches(0))


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_a_check_reads_every_image_once(monkeypatch, limit):
    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", limit)
    frames = Frames()
    inputs = NetworkInputs(frames, SPEC)
    inputs.check()
    assert frames.reads == 5
    with pytest.raises(DataError, match=r"d\.png"):
        NetworkInputs(Broken(), SPEC).check()


class Deadly(Frames):
    """Reading the fourth frame kills the process that does, as the kernel does for memory."""

    @override
    def __getitem__(self, index):
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.slow
@pytest.mark.filterwarnings(  # torch's own, of its queue's thread and of a pipe closed twice
    "ignore::pytest.PytestUnhandledThreadExceptionWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_a_loader_process_that_is_killed_is_one_line(monkeypatch):
    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", 0)
    loader = TrainingLoader(
        TrainingInputs(NetworkInputs(Deadly(), SPEC), "flip", seed=0), EpochOrder(5, 5, 0), 1
    )
    message = r"images ended \(DataLoader worker .*lower data.workers"
    with pytest.raises(EdgeDetrError, match=message) as caught, one_line_of_workers():
        list(loader.batches(0))
    assert "\n" not in str(caught.value)
    del loader, caught
    gc.collect()
    for thread in threading.enumerate():  # what torch leaves ends here, not in another test
        if thread.name == "QueueFeederThread":
            thread.join(30)


@pytest.mark.slow
def test_a_lack_of_shared_memory_is_one_line(monkeypatch):
    def full(_tensor):
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    data = TrainingInputs(NetworkInputs(Frames(), SPEC), "flip", seed=0)
    with pytest.raises(EdgeDetrError, match=r"unable to allocate .*give /dev/shm more room"):
        list(TrainingLoader(data, EpochOrder(5, 5, 0), 1).batches(0))


def test_another_fault_keeps_its_trace():
    with pytest.raises(RuntimeError, match="of another kind"), one_line_of_workers():
        raise RuntimeError("of another kind")


def test_the_teachers_view_is_of_the_same_augmented_pixels():
    """A teacher of twice the side: its picture, shrunk by two, is the student's; so after zooms."""
    plain = replace(SPEC, mean=(0.0,) * 3, std=(1.0,) * 3)
    wider = replace(SPEC, input_hw=(64, 128))
    data = TrainingInputs(NetworkInputs(Frames(), plain, teacher=wider), "strong", seed=0)
    for epoch in range(4):
        pixels, targets = data[epoch, 1]
        assert pixels.shape == (3, 32, 64)
        assert targets.view is not None
        assert targets.view.pixels.shape == (3, 64, 128)
        assert targets.view.frame.tolist() == [1, 1, 0, 0]
        halved = torch.nn.functional.avg_pool2d(targets.view.pixels.float(), 2) / 255
        assert (halved - pixels).abs().max() < 1 / 255
    same = replace(wider, input_hw=(32, 64))
    for teacher, seen in ((wider, False), (same, True), (None, True)):
        inputs = NetworkInputs(Frames(), SPEC, teacher=teacher)
        data = TrainingInputs(inputs, "flip", 0)
        assert (data[0, 0][1].view is None) == seen
        loader = TrainingLoader(data, EpochOrder(5, 2, 0), 0)
        assert loader.only_mirrors == seen
        assert not TrainingLoader(data, EpochOrder(5, 2, 0, scales=(0.5,)), 0).only_mirrors


def test_a_damaged_jpeg_is_named_before_training(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = bytes(cv2.imencode(".jpg", pixels)[1])
    middle = (data.rfind(b"\xff\xda") + len(data)) // 2

    class Files(Frames):
        paths = tuple(tmp_path / f"{name}.jpg" for name in Frames.ids)

        @override
        def __getitem__(self, index):
            return Sample(Frame(read_image(self.paths[index])), self.truths[index])

    for path in Files.paths:
        path.write_bytes(data)
    NetworkInputs(Files(), SPEC).check()
    Files.paths[3].write_bytes(data[:middle] + data[middle - 200 :])  # a part is there twice
    with pytest.raises(DataError, match=r"d\.jpg: its pixel data is damaged"):
        NetworkInputs(Files(), SPEC).check()
