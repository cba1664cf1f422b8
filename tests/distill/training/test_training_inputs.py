from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from edgedetr.distill.data import Sample, Truth
from edgedetr.distill.training.augment import augmented_on_device
from edgedetr.distill.training.loader import TrainingLoader
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.sampling import EpochOrder, Item
from edgedetr.distill.training.training_inputs import TrainingInputs
from edgedetr.runtime.spec import ModelSpec
from edgedetr.runtime.types import Frame

SPEC = ModelSpec((64, 96), ("Car",))
WIDE, HIGH = (64, 96), (96, 64)


class Frames:
    """Eight frames of noise, every second one upright, with one object in their middle."""

    class_names: tuple[str, ...] = ("Car",)
    ids = tuple("abcdefgh")

    def __init__(self, folder):
        self.paths = tuple(folder / f"{name}.png" for name in self.ids)
        for index, path in enumerate(self.paths):
            cv2.imwrite(str(path), np.zeros((*self.hw(index), 3), np.uint8))
        self.truths = tuple(self._truth(i) for i in range(8))

    @staticmethod
    def hw(index):
        return (60, 90) if index % 2 == 0 else (90, 60)

    def _truth(self, index):
        height, width = self.hw(index)
        return Truth(
            boxes=np.array([[width / 4, height / 4, width * 0.75, height * 0.75]], np.float32),
            labels=np.zeros(1, np.int64),
            truncation=np.zeros(1, np.float32),
            occlusion=np.zeros(1, np.int64),
            ignored=np.array([[0, 0, 5, 5]], np.float32),
        )

    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = np.random.default_rng(index).integers(0, 256, (*self.hw(index), 3), np.uint8)
        return Sample(Frame(image), self.truths[index])


@pytest.fixture
def frames(tmp_path):
    return Frames(tmp_path)


EVERYTHING = "mosaic+mixup+copy_paste+scale_jitter+crop+strong"


@pytest.mark.parametrize("workers", [0, 2])
def test_every_augmentation_at_once_is_the_same_by_seed_epoch_and_image(frames, workers):
    def batches(seed=0, done=0):
        inputs = NetworkInputs(frames, SPEC, (WIDE, HIGH))
        data = TrainingInputs(inputs, EVERYTHING, seed)
        order = EpochOrder(8, 2, seed, groups=inputs.groups, scales=(0.5, 1.0))
        return list(TrainingLoader(data, order, workers).batches(1, done))

    whole, again, rest, other = batches(), batches(), batches(done=1), batches(seed=1)
    assert len(whole) == 4
    for one, two in (*zip(whole, again, strict=True), *zip(whole[1:], rest, strict=True)):
        assert torch.equal(one[0], two[0])
        for a, b in zip(one[1], two[1], strict=True):
            assert torch.equal(a.boxes, b.boxes)
            assert torch.equal(a.ignored, b.ignored)
    assert any(
        a[0].shape != b[0].shape or not torch.equal(a[0], b[0])
        for a, b in zip(whole, other, strict=True)
    )


def test_a_repeated_image_is_augmented_otherwise(frames):
    data = TrainingInputs(NetworkInputs(frames, SPEC), "strong", seed=0)
    first = data.picture(Item(0, 3))
    assert any(not torch.equal(data.picture(Item(0, 3, r)).pixels, first.pixels) for r in (1, 2, 3))


def test_each_image_gets_the_size_nearest_to_its_shape_and_boxes_stay(frames):
    inputs = NetworkInputs(frames, SPEC, (WIDE, HIGH))
    assert inputs.groups.tolist() == [0, 1] * 4
    data = TrainingInputs(inputs, "flip", seed=0)
    for index in range(8):
        picture = data.picture(Item(0, index))
        assert picture.hw == (WIDE, HIGH)[index % 2]
        torch.testing.assert_close(
            picture.targets.boxes, torch.tensor([[0.5, 0.5, 0.5, 0.5]]), atol=0.02, rtol=0
        )


def test_a_scale_resizes_the_picture_and_leaves_its_boxes(frames):
    data = TrainingInputs(NetworkInputs(frames, SPEC), "flip", seed=0)
    own, half = data.picture(Item(0, 2)), data.picture(Item(0, 2, 0, 0.5))
    assert half.hw == (32, 64)  # 1.5 strides are 2
    assert torch.equal(half.targets.boxes, own.targets.boxes)
    assert data[Item(0, 2, 0, 0.5)][0].shape == (3, 32, 64)
    assert data[0, 2][0].shape == (3, 64, 96)


def test_the_last_epochs_only_mirror(frames):
    inputs = NetworkInputs(frames, SPEC)
    strong = TrainingInputs(inputs, EVERYTHING, seed=0, plain_from=2)
    plain = [inputs[i].pixels for i in range(8)]
    for epoch, kept in ((1, False), (2, True), (3, True)):
        found = [strong.picture(Item(epoch, i)).pixels for i in range(8)]
        same = [
            torch.equal(f, p) or torch.equal(f, p.flip(-1))
            for f, p in zip(found, plain, strict=True)
        ]
        assert all(same) == kept
    still = TrainingInputs(inputs, "mosaic", seed=0, plain_from=0)
    assert torch.equal(still.picture(Item(0, 3)).pixels, plain[3])


def test_frames_that_are_mixed_have_the_size_of_the_picture(frames):
    inputs = NetworkInputs(frames, SPEC, (WIDE, HIGH))
    data = TrainingInputs(inputs, "mosaic", seed=0)
    for epoch in range(6):
        for index in range(8):
            assert data.picture(Item(epoch, index)).hw == (WIDE, HIGH)[index % 2]


def test_a_teacher_of_its_own_input_keeps_its_size_at_every_scale_and_shape(frames):
    """Its pixels are twice as fine; at half of 64 x 96 the student has 32 x 64 (1.5 strides)."""
    spec = replace(SPEC, resize="stretch", mean=(0.0,) * 3, std=(1.0,) * 3)
    teacher = replace(spec, input_hw=(128, 192))
    data = TrainingInputs(NetworkInputs(frames, spec, (WIDE, HIGH), teacher), "flip", seed=0)
    for index, scale, hw in ((2, 1.0, WIDE), (2, 0.5, (32, 64)), (3, 1.0, HIGH)):
        pixels, targets = data[Item(0, index, 0, scale)]
        assert pixels.shape == (3, *hw)
        assert targets.view is not None
        assert targets.view.pixels.shape == (3, 128, 192)
        assert targets.view.frame.tolist() == [1, 1, 0, 0]
    both = [data[Item(0, 2, 0, scale)][1].view for scale in (1.0, 0.5)]
    whole, half = (view.pixels.float() for view in both if view is not None)
    assert not torch.equal(whole, half)  # made of the pixels that the student got
    means = [torch.nn.functional.avg_pool2d(pixels, 64) for pixels in (whole, half)]
    torch.testing.assert_close(means[0], means[1], atol=6, rtol=0)


@pytest.mark.parametrize("kind", [EVERYTHING, "strong", "flip", "flip+mosaic"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_its_device_augments_is_that_of_the_host_but_for_some_levels(
    frames, kind, workers
):
    """The truth is the same to the bit, and what comes to the device is as large as the host's."""

    def batches(*, on_device):
        inputs = NetworkInputs(frames, SPEC, stay_pixels=True)
        data = TrainingInputs(inputs, kind, 0, on_device=on_device)
        order = EpochOrder(8, 4, 0, scales=(1.0, 0.67))
        return list(TrainingLoader(data, order, workers).batches(0))

    touched = 0
    for (mine, truths), (theirs, others) in zip(
        batches(on_device=True), batches(on_device=False), strict=True
    ):
        assert mine.dtype == torch.uint8
        touched += not torch.equal(mine, theirs)
        found = augmented_on_device(mine, truths)
        apart = (found.int() - theirs.int()).abs()
        assert apart.float().mean() < 0.3
        assert apart.max() <= 6
        for truth, other in zip(truths, others, strict=True):
            assert torch.equal(truth.boxes, other.boxes)
            assert torch.equal(truth.ignored, other.ignored)
            assert not other.changes
    assert touched == (
        1 if kind == "flip+mosaic" else 2
    )  # there, but for the size of a batch, none


def test_pictures_to_look_at_are_those_of_the_host(frames):
    inputs = NetworkInputs(frames, SPEC, stay_pixels=True)
    on_device = TrainingInputs(inputs, "strong", 0, on_device=True)
    host = TrainingInputs(inputs, "strong", 0)

    for index in range(4):
        assert torch.equal(
            on_device.picture(Item(0, index)).pixels, host.picture(Item(0, index)).pixels
        )
