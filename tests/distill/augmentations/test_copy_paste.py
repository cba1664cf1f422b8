from dataclasses import replace

import numpy as np
import torch
from torchvision.ops import box_convert, box_iou

from edgedetr.distill.augmentations import Material, copy_paste
from edgedetr.distill.picture import Picture


def pasted(picture, material, seeds=60):
    """Yields the pictures that something was pasted into."""
    for seed in range(seeds):
        found = copy_paste.apply(picture, np.random.default_rng(seed), material)
        if len(found.targets.labels) > len(picture.targets.labels):
            yield found


def test_objects_are_pasted_at_their_height_and_size_where_they_hide_nothing(make_frame):
    frame, other = make_frame(0), make_frame(1)
    material = Material(lambda _: other, pad_value=114)
    found = list(pasted(frame, material))
    assert len(found) > 10
    for picture in found:
        own = len(frame.targets.labels)
        assert torch.equal(picture.targets.boxes[:own], frame.targets.boxes)
        assert torch.equal(picture.targets.ignored, frame.targets.ignored)
        for label, box in zip(
            picture.targets.labels[own:], picture.targets.boxes[own:], strict=True
        ):
            source = other.targets.boxes[other.targets.labels == label][0]
            assert torch.equal(box[1:], source[1:])
        corners = box_convert(picture.targets.boxes, "cxcywh", "xyxy")
        overlap = box_iou(corners, corners) - torch.eye(len(corners))
        assert overlap.max() <= copy_paste.MOST_COVERED


def test_an_object_that_another_one_covers_is_not_taken(make_frame):
    """Both of two that cover each other stay where they are."""
    frame, other = make_frame(0), make_frame(1)
    twice = replace(
        other.targets,
        labels=torch.tensor([3, 4]),
        boxes=other.targets.boxes[:1].repeat(2, 1),
        ignored=other.targets.ignored[:0],
    )
    material = Material(lambda _: Picture(other.pixels, twice), pad_value=114)
    assert not list(pasted(frame, material))


def test_nothing_is_pasted_into_the_padding(make_frame):
    """The picture takes the left half: what was pasted lies in it."""
    frame = make_frame(0)
    half = replace(frame.targets, picture=torch.tensor([[0.25, 0.5, 0.5, 1.0]]))
    left = Picture(frame.pixels, replace(half, labels=half.labels[:1], boxes=half.boxes[:1]))
    found = list(pasted(left, Material(lambda _: make_frame(1), pad_value=114), 200))
    assert found
    for picture in found:
        assert box_convert(picture.targets.boxes[1:], "cxcywh", "xyxy")[:, 2].max() <= 0.5 + 1e-6
