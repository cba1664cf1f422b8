import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from edgedetr.distill import recipe
from edgedetr.distill.config import DataConfig
from edgedetr.distill.data import open_dataset
from edgedetr.distill.model import Model
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.sampling import EpochOrder, Item, Share
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.training.training_inputs import TrainingInputs
from edgedetr.distill.training.unlabelled import (
    MixedFrames,
    MixedOrder,
    for_distillation,
    hash_of_names,
    least_batch,
    passed,
    unlabelled_count,
)
from edgedetr.runtime.errors import ArtifactError, DataError
from edgedetr.runtime.plugins import names

CLASSES = ("Car", "Pedestrian", "Cyclist")


@pytest.fixture
def folder(tmp_path):
    """Three pictures without labels."""
    root = tmp_path / "unlabelled"
    root.mkdir()
    for index in range(3):
        image = np.full((64, 96, 3), 40 * index, np.uint8)
        cv2.imwrite(str(root / f"frame_{index}.png"), image)
    return root


def test_frames_of_a_folder_lie_behind_the_labelled_ones(kitti, folder, make_model):
    split = open_dataset("kitti", str(kitti), "train", CLASSES)
    mixed = MixedFrames(split, folder)
    assert (len(mixed), mixed.unlabelled) == (7, 3)
    assert mixed[0].labelled
    assert not mixed[4].labelled
    assert mixed[5].frame.frame_id == "frame_1"
    assert len(mixed.truths[6].labels) == 0
    data = TrainingInputs(NetworkInputs(mixed, make_model().spec), "strong", 0)
    assert [data[0, index][1].labelled for index in range(7)] == [True] * 4 + [False] * 3


def test_a_folder_without_images_is_one_line(kitti, tmp_path):
    split = open_dataset("kitti", str(kitti), "train", CLASSES)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none: holds no image"):
        MixedFrames(split, tmp_path / "none")


def test_every_batch_has_its_share_of_frames_without_labels():
    """Of 10 labelled and 3 others, in batches of 4: 3 and 1 of each, all others in 3 steps."""
    assert unlabelled_count(16, 0.25) == 4
    assert unlabelled_count(2, 0.9) == 1
    assert unlabelled_count(8, 0.01) == 1
    assert least_batch(16, DataConfig("data")) == 16
    assert least_batch(16, DataConfig("data", unlabelled="more")) == 4
    order = MixedOrder(EpochOrder(10, 3, 5), first=10, unlabelled=3, count=1, seed=5)
    first = list(order)
    assert [len(batch) for batch in first] == [4, 4, 4] == [4] * len(order)
    assert all(item.image < 10 for batch in first for item in batch[:3])
    assert {batch[3].image for batch in first} == {10, 11, 12}
    assert list(order) == first
    order.epoch = 1
    assert {item.epoch for batch in order for item in batch} == {1}
    assert list(order) != first
    many = MixedOrder(EpochOrder(10, 2, 5), first=10, unlabelled=3, count=2, seed=5)
    assert [len(batch) for batch in many] == [4] * 5


def test_each_process_has_its_share_of_both_kinds():
    """Of batches of six labelled images and three without labels, two processes."""
    whole = MixedOrder(EpochOrder(12, 6, 5), 12, unlabelled=9, count=3, seed=5)
    shares = [
        MixedOrder(EpochOrder(12, 6, 5, share=share), 12, 9, 3, 5, share)
        for share in (Share(0, 2), Share(1, 2))
    ]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert [*first[:3], *second[:3], *first[3:], *second[3:]] == batch
        assert (len(first), len(second)) == (4, 5)
    assert list(shares[1].whole()) == list(whole)
    assert whole.least_images == 3


def test_frames_without_labels_have_the_scale_of_their_batch_and_a_resumed_epoch_goes_on():
    order = MixedOrder(EpochOrder(10, 2, 5, scales=(0.5, 1.0)), 10, unlabelled=3, count=1, seed=5)
    assert not order.has_one_size
    assert MixedOrder(EpochOrder(10, 2, 5), 10, 3, 1, 5).has_one_size
    order.epoch = 1
    whole = list(order)
    assert {batch[0].scale for batch in whole} == {0.5, 1.0}
    assert all(len({item.scale for item in batch}) == 1 for batch in whole)
    order.done = 2
    assert list(order) == whole[2:]


@pytest.mark.parametrize("augment", ["mosaic", "mixup", "copy_paste"])
def test_frames_are_mixed_with_labels_only_if_they_have_some(kitti, folder, make_model, augment):
    """An unlabelled frame in a labelled picture would teach that its objects are background."""
    mixed = MixedFrames(open_dataset("kitti", str(kitti), "train", CLASSES), folder)
    data = TrainingInputs(NetworkInputs(mixed, make_model().spec), augment, 0)
    partners = set()
    for epoch in range(30):
        for index in range(7):
            targets = data.picture(Item(epoch, index)).targets
            unlabelled = {name.startswith("frame_") for name in targets.frame_id.split(" with ")}
            assert unlabelled == {not targets.labelled}
            partners |= {targets.labelled} if " with " in targets.frame_id else set()
    assert partners == ({True} if augment == "copy_paste" else {True, False})


@pytest.mark.parametrize("family", names("edgedetr.distill.detectors"))
def test_a_frame_without_labels_has_no_detection_loss(family, make_model, images, targets):
    """Its losses are those of the labelled image alone, its memory is that of its own pixels."""
    model = make_model(family)
    mixed = [replace(targets[1], labelled=False), targets[0]]
    torch.manual_seed(1)
    losses, memory = passed(model, images, mixed)
    torch.manual_seed(1)
    alone, _ = model.training_pass(images[1:], targets[:1])
    assert losses.keys() == alone.keys()
    for term, value in losses.items():
        torch.testing.assert_close(value, alone[term])
    together = model.encode(images).levels  # not the queries, whose choice has near ties
    for found, wanted in zip(memory.levels, together, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_the_teachers_sure_detections_stand_for_labels(make_model, images, targets, monkeypatch):
    """Of scores .9, .6 and .3 two count; a box that leaves the image is cut to it."""
    logits = torch.tensor([[[0.1, 0.9, 0.1], [0.6, 0.2, 0.1], [0.3, 0.1, 0.1]]]).logit()
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.0, 0.5, 0.4, 0.2], [0.5, 0.5, 0.1, 0.1]]])
    monkeypatch.setattr(Model, "predict", lambda _self, _images: (logits, boxes))
    teacher = TeacherMemory(make_model())
    mixed = [targets[0], replace(targets[1], labelled=False)]
    kept, found = for_distillation(images, mixed, teacher, 0.5)
    assert kept is targets[0]
    assert found.labels.tolist() == [1, 0]
    wanted = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.1, 0.5, 0.2, 0.2]])
    torch.testing.assert_close(found.boxes, wanted)


def test_labels_are_left_alone_without_unlabelled_frames(make_model, images, targets):
    assert for_distillation(images, targets, TeacherMemory(make_model()), 0.5) == targets


@pytest.mark.slow
def test_a_run_says_how_many_frames_have_no_labels(config, teacher, folder, tmp_path, capsys):
    data = replace(config.data, unlabelled=str(folder), unlabelled_share=0.5)
    data = replace(data, augment="mosaic+strong", scales=(1.0, 1.34))
    config = replace(
        config, data=data, teacher=str(teacher), methods=("clock", "kd_detr"), epochs=1
    )
    metrics = recipe.train(config, tmp_path / "run", "a command")
    assert metrics["unlabelled_frames"] == 3
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [x for x in map(json.loads, lines) if x["kind"] == "step"]
    assert [step["unlabelled"] for step in steps] == [1, 1, 1, 1]
    assert "3 frames of" in capsys.readouterr().out
    before = hash_of_names(folder)
    (folder / "frame_2.png").rename(folder / "frame_9.png")
    assert hash_of_names(folder) != before
    with pytest.raises(ArtifactError, match=r"data\.unlabelled: images was "):
        recipe.train(config, tmp_path / "run", "a command")
