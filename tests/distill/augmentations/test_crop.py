from dataclasses import replace

import numpy as np
import torch

from edgedetr.distill.augmentations import crop
from edgedetr.distill.picture import Picture


def test_a_crop_always_keeps_an_object(make_frame, material):
    frame, cut = make_frame(0), 0
    for seed in range(60):
        picture = crop.apply(frame, np.random.default_rng(seed), material)
        cut += picture is not frame
        assert len(picture.targets.boxes) >= 1
    assert 15 < cut < 45


def test_a_picture_without_objects_is_cropped_too(make_frame, material):
    frame = make_frame(0)
    none = frame.targets.boxes[:0]
    empty = Picture(
        frame.pixels, replace(frame.targets, labels=frame.targets.labels[:0], boxes=none)
    )
    pictures = [crop.apply(empty, np.random.default_rng(seed), material) for seed in range(20)]
    assert any(not torch.equal(p.pixels, frame.pixels) for p in pictures)
