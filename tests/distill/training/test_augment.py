from dataclasses import replace

import pytest
import torch

from edgedetr.distill.augmentations import Material, augmentations_of
from edgedetr.distill.picture import Picture
from edgedetr.distill.training import augment
from edgedetr.distill.types import Targets
from edgedetr.runtime.errors import UnknownNameError


def augmented(image, targets, kind, seed):
    """Augment a picture by a kind that needs no other frame."""
    material = Material(lambda _: Picture(image, targets), pad_value=114)
    found = augment.augmented(Picture(image, targets), augmentations_of(kind), seed, material)
    return found.pixels, found.targets


def picture_of(box, hw=(96, 320)):
    """A black picture whose box (cxcywh) is white."""
    height, width = hw
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    cx, cy, w, h = box
    image[
        :,
        round((cy - h / 2) * height) : round((cy + h / 2) * height),
        round((cx - w / 2) * width) : round((cx + w / 2) * width),
    ] = 255
    return image


def truth_of(box, ignored=()):
    return Targets(
        torch.tensor([1]),
        torch.tensor([box]),
        torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
    )


def test_the_same_seed_gives_the_same_picture_and_leaves_torch_alone():
    image, truth = picture_of((0.3, 0.5, 0.2, 0.4)), truth_of((0.3, 0.5, 0.2, 0.4))
    before = torch.random.get_rng_state()
    one, two, other = (augmented(image, truth, "strong", seed)[0] for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_flipping_mirrors_half_of_the_pictures_and_their_boxes():
    box = (0.3, 0.5, 0.2, 0.4)
    centres = [
        augmented(picture_of(box), truth_of(box, [(0.1, 0.5, 0.2, 0.2)]), "flip", s)[1].boxes[0, 0]
        for s in range(100)
    ]
    flipped = sum(abs(c.item() - 0.7) < 1e-6 for c in centres)
    assert 30 < flipped < 70
    assert flipped + sum(abs(c.item() - 0.3) < 1e-6 for c in centres) == 100


def test_the_picture_of_a_letterbox_moves_with_its_content():
    """The white area is the whole picture: what is left of it is where the targets say."""
    area = (0.4, 0.3, 0.8, 0.6)
    truth = replace(truth_of(area), picture=torch.tensor([area]))
    for seed in range(20):
        _, found = augmented(picture_of(area), truth, "strong", seed)
        assert found.picture is not None
        torch.testing.assert_close(found.picture, found.boxes)


def test_boxes_stay_on_their_object():
    """The white area of the augmented picture is the augmented box, within a pixel or so."""
    for seed in range(60):
        box = (0.45, 0.55, 0.2, 0.5)
        image, truth = augmented(picture_of(box), truth_of(box), "strong", seed)
        if len(truth.boxes) == 0:
            continue
        bright = image.float().mean(0) > image.float().mean(0).max() / 2
        rows, columns = (bright.any(d).nonzero().flatten() for d in (1, 0))
        cx, cy, w, h = truth.boxes[0].tolist()
        assert abs(columns[0] - (cx - w / 2) * 320) <= 2
        assert abs(columns[-1] + 1 - (cx + w / 2) * 320) <= 2
        assert abs(rows[0] - (cy - h / 2) * 96) <= 2
        assert abs(rows[-1] + 1 - (cy + h / 2) * 96) <= 2


def test_objects_that_a_zoom_cuts_off_become_ignored_areas():
    box = (0.04, 0.5, 0.08, 0.4)
    kinds = set()
    for seed in range(200):
        _, truth = augmented(picture_of(box), truth_of(box), "strong", seed)
        assert len(truth.labels) == len(truth.boxes)
        assert len(truth.boxes) + len(truth.ignored) <= 1
        for b in (*truth.boxes, *truth.ignored):
            assert b[2:].min() > 0
            assert (b[:2] - b[2:] / 2).min() >= -1e-6
            assert (b[:2] + b[2:] / 2).max() <= 1 + 1e-6
        kinds.add((len(truth.boxes), len(truth.ignored)))
    assert kinds == {(1, 0), (0, 1), (0, 0)}


def test_an_unknown_augmentation_is_named_with_the_nearest():
    with pytest.raises(UnknownNameError, match="no 'mosaik' in augmentations; did you mean 'mos"):
        augmentations_of("mosaik+flip")
