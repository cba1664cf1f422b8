"""What every augmentation must do, found by listing them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert

from edgedetr.distill.augmentations import Material, augmentation
from edgedetr.distill.picture import Picture
from edgedetr.runtime.draw import class_colour
from edgedetr.runtime.plugins import names

NAMES = names("edgedetr.distill.augmentations")
SEEDS = range(40)
OTHER_COLOURS = ("light", "mixup")
"""What changes colours has a test of its own."""


def applied(name, picture, seed, material):
    return augmentation(name).apply(picture, np.random.default_rng(seed), material)


def corners_px(boxes, hw):
    height, width = hw
    return box_convert(boxes, "cxcywh", "xyxy") * torch.tensor([width, height] * 2)


def seen(picture, label):
    """Corners in pixels of what has a label's colour, in whole pixels; None where nothing has."""
    colour = torch.tensor(class_colour(label))[:, None, None]
    mask = ((picture.pixels.int() - colour).abs() <= 3).all(0)
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    if len(rows) < 3 or len(columns) < 3:
        return None
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def lies_in(found, box, slack=1.5):
    return bool((found[:2] >= box[:2] - slack).all() and (found[2:] <= box[2:] + slack).all())


@pytest.mark.parametrize("name", [n for n in NAMES if n not in OTHER_COLOURS])
def test_every_box_stays_on_its_object_and_every_ignored_area_on_its_own(
    name, make_frame, material
):
    """All pixels of an object's colour lie in its box; one that was cut lies in an ignored area."""
    changed = 0
    for seed in SEEDS:
        before = make_frame(0)
        picture = applied(name, before, seed, material)
        changed += not torch.equal(picture.pixels, before.pixels)
        boxes = corners_px(picture.targets.boxes, picture.hw)
        ignored = corners_px(picture.targets.ignored, picture.hw)
        for label in range(16):
            found = seen(picture, label)
            if found is None:
                continue
            own = boxes[picture.targets.labels == label]
            if len(own):
                assert any(lies_in(found, box) for box in own), (seed, label)
            else:
                assert any(lies_in(found, area) for area in ignored), (seed, label)
    assert changed > len(SEEDS) / 5


@pytest.mark.parametrize("name", [n for n in NAMES if n not in {*OTHER_COLOURS, "copy_paste"}])
def test_every_box_is_as_large_as_its_object(name, make_frame, material):
    """What is pasted may hide a tenth of an object; nothing else hides any."""
    for seed in SEEDS:
        picture = applied(name, make_frame(0), seed, material)
        boxes = corners_px(picture.targets.boxes, picture.hw)
        for label in set(picture.targets.labels.tolist()):
            own, found = boxes[picture.targets.labels == label], seen(picture, label)
            if found is None or len(own) != 1:
                continue
            assert (found - own[0]).abs().max() <= 3, (seed, label)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_picture_and_leaves_the_input_alone(name, make_frame):
    def material():
        return Material(lambda rng: make_frame(int(rng.integers(1, 4))), pad_value=114)

    for seed in range(8):
        frame, state = make_frame(0), torch.random.get_rng_state()
        one, two = (applied(name, frame, seed, material()) for _ in range(2))
        assert torch.equal(one.pixels, two.pixels)
        assert torch.equal(one.targets.boxes, two.targets.boxes)
        assert torch.equal(frame.pixels, make_frame(0).pixels)
        assert torch.equal(frame.targets.boxes, make_frame(0).targets.boxes)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert one.pixels.dtype == torch.uint8
        assert one.hw == frame.hw


@pytest.mark.parametrize("name", NAMES)
def test_truth_stays_in_the_picture_and_whole(name, make_frame, material):
    for seed in SEEDS:
        targets = applied(name, make_frame(0), seed, material).targets
        assert len(targets.labels) == len(targets.boxes)
        everything = torch.cat([targets.boxes, targets.ignored])
        corners = box_convert(everything, "cxcywh", "xyxy")
        assert everything[:, 2:].min() > 0
        assert corners.min() >= -1e-5
        assert corners.max() <= 1 + 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_that_is_ignored_as_a_whole_stays_so(name, make_frame):
    """Nothing on it is background, whatever it is mixed with: its pixels lie in ignored areas."""
    whole = torch.tensor([[0.5, 0.5, 1.0, 1.0]])

    def blank(number):
        frame = make_frame(number)
        none = frame.targets.boxes[:0]
        unlabelled = replace(
            frame.targets, labels=frame.targets.labels[:0], boxes=none, ignored=whole
        )
        return Picture(frame.pixels, unlabelled)

    numbers = iter(range(10**6))
    material = Material(lambda _: blank(1 + next(numbers) % 3), pad_value=114)
    for seed in range(15):
        picture = applied(name, blank(0), seed, material)
        ignored = corners_px(picture.targets.ignored, picture.hw)
        for label in range(12) if name != "light" else ():
            found = seen(picture, label)
            assert found is None or any(lies_in(found, area) for area in ignored), (seed, label)
        assert len(picture.targets.boxes) == 0
        assert len(ignored) >= 1


@pytest.mark.parametrize("name", NAMES)
def test_the_area_of_a_letterboxed_picture_moves_with_it(name, make_frame):
    """A picture is white, its padding black; where the targets say it lies, no black is."""
    frame = make_frame(0)
    area = torch.tensor([[0.4, 0.3, 0.8, 0.6]])
    none = frame.targets.boxes[:0]
    pixels = torch.zeros_like(frame.pixels)
    pixels[:, :58, :128] = 255  # 0.6 of 96 rows is 57.6
    boxed = Picture(
        pixels,
        replace(
            frame.targets, labels=frame.targets.labels[:0], boxes=none, ignored=none, picture=area
        ),
    )
    material = Material(lambda _: boxed, pad_value=0)
    for seed in range(15):
        picture = applied(name, boxed, seed, material)
        x0, y0, x1, y1 = (
            (0, 0, picture.hw[1], picture.hw[0])
            if picture.targets.picture is None
            else corners_px(picture.targets.picture, picture.hw)[0].round().int().tolist()
        )
        inside = picture.pixels[:, y0 + 2 : max(y1 - 2, 0), x0 + 2 : max(x1 - 2, 0)]
        if name != "light":
            assert (inside > 200).all(), seed
