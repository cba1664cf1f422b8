from dataclasses import replace

import torch

from edgedetr.distill.picture import Picture, Window, cropped, joined, placed
from edgedetr.distill.types import Targets

HW = (100, 200)


def targets_of(*corners, ignored=(), picture=None, name="a"):
    """The truth of boxes in pixels of a picture of 100 x 200."""
    size = torch.tensor([200.0, 100, 200, 100])

    def boxes(pixels):
        c = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 4)
        return torch.cat([(c[:, :2] + c[:, 2:]) / 2, c[:, 2:] - c[:, :2]], 1) / size

    area = None if picture is None else boxes([picture])
    return Targets(torch.arange(len(corners)), boxes(corners), boxes(ignored), name, area)


def test_a_crop_keeps_what_is_seen_and_ignores_what_is_mostly_cut():
    """The right half: an object inside, one of which a fifth is left, one that is gone."""
    targets = targets_of(
        (120, 20, 160, 60), (60, 20, 110, 60), (10, 10, 50, 50), ignored=[(90, 0, 130, 20)]
    )
    part = cropped(
        Picture(torch.zeros(3, *HW, dtype=torch.uint8), targets), Window(0, 100, 100, 100), (50, 50)
    )
    assert part.hw == (50, 50)
    assert part.targets.labels.tolist() == [0]
    torch.testing.assert_close(part.targets.boxes, torch.tensor([[0.4, 0.4, 0.4, 0.4]]))
    torch.testing.assert_close(
        part.targets.ignored, torch.tensor([[0.15, 0.1, 0.3, 0.2], [0.05, 0.4, 0.1, 0.4]])
    )


def test_an_object_that_becomes_too_small_is_ignored():
    """Three pixels high before, one and a half after."""
    picture = Picture(torch.zeros(3, *HW, dtype=torch.uint8), targets_of((20, 20, 60, 23)))
    part = cropped(picture, Window(0, 0, 100, 200), (50, 100))
    assert len(part.targets.boxes) == 0
    assert len(part.targets.ignored) == 1


def test_a_picture_in_a_window_of_a_larger_one():
    """The whole of 100 x 200 in the lower right quarter of 200 x 400."""
    moved = placed(targets_of((0, 0, 200, 100)), Window(100, 200, 100, 200), (200, 400))
    torch.testing.assert_close(moved.boxes, torch.tensor([[0.75, 0.75, 0.5, 0.5]]))


def test_the_truth_of_several_pictures_is_joined_and_named_once():
    one, two = (
        targets_of((0, 0, 20, 20)),
        targets_of((5, 5, 9, 9), ignored=[(0, 0, 9, 9)], name="b"),
    )
    both = joined([one, two, two], None)
    assert len(both.boxes) == len(both.labels) == 3
    assert len(both.ignored) == 2
    assert both.frame_id == "a with b"


def test_the_content_of_a_letterbox_is_without_its_padding():
    pixels = torch.zeros(3, *HW, dtype=torch.uint8)
    boxed = Picture(pixels, targets_of(picture=(0, 0, 200, 60)))
    assert boxed.content == Window(0, 0, 60, 200)
    assert Picture(pixels, targets_of()).content == Window(0, 0, 100, 200)


def test_a_picture_of_several_has_the_shape_of_the_first_only_where_it_is_all_of_it():
    """A letterboxed frame in a mosaic: what shows an image is the whole input, of another shape."""
    whole = replace(targets_of(), source_hw=(50, 100))
    boxed = replace(targets_of(picture=(0, 0, 200, 50)), source_hw=(50, 100))
    assert joined([whole, boxed], None).source_hw == (50, 100)
    assert joined([boxed, whole], boxed.picture).source_hw == (50, 100)
    assert joined([boxed, whole], None).source_hw is None
