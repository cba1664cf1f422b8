"""Changes of pixels: what the host does to one picture, and a device to a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from edgedetr.distill.pixel_changes import PHOTOMETRIC, Cut, Distort, Mirror, Resize

HW = (48, 80)
PLAIN: dict[str, Any] = {
    "brightness": None,
    "contrast": None,
    "contrast_first": False,
    "saturation": None,
    "hue": None,
    "channels": None,
}


@pytest.fixture
def pictures():
    """Four smooth pictures with noise of a few levels on them."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(4, 3, 6, 10, generator=generator) * 255
    fine = functional.resize(coarse, list(HW)) + torch.randn(4, 3, *HW, generator=generator) * 4
    return fine.clamp(0, 255).to(torch.uint8)


def _one_by_one(pictures, changes):
    pairs = zip(pictures, changes, strict=True)
    return torch.stack([one if change is None else change.applied(one) for one, change in pairs])


def _levels_apart(pictures, changes):
    kind = next(type(change) for change in changes if change is not None)
    together = kind.together(pictures, changes)
    assert together.dtype == torch.uint8
    return (together.int() - _one_by_one(pictures, changes).int()).abs()


def test_a_batch_is_mirrored_to_the_bit_where_it_is_to_be(pictures):
    assert _levels_apart(pictures, [Mirror(), None, None, Mirror()]).max() == 0
    together = Mirror.together(pictures, [Mirror(), None, None, Mirror()])
    assert torch.equal(together[0], pictures[0].flip(-1))
    assert torch.equal(together[1], pictures[1])


def test_windows_of_a_batch_are_enlarged_as_one_by_one_but_for_a_level(pictures):
    cuts = [Cut(3, 7, 30, 50, HW), None, Cut(0, 40, 48, 40, HW), Cut(20, 0, 15, 80, HW)]

    apart = _levels_apart(pictures, cuts)

    assert apart.max() <= 1
    assert apart[1].max() == 0


def test_a_batch_gets_one_size(pictures):
    resized = Resize.together(pictures, [Resize((32, 64))] * 4)
    assert torch.equal(resized, functional.resize(pictures, [32, 64]))
    assert Resize.together(pictures, [None] * 4) is pictures


@pytest.mark.parametrize(
    ("change", "most"),
    [
        ({"brightness": 1.12}, 0),
        ({"contrast": 1.4}, 1),
        ({"contrast": 0.6, "contrast_first": True}, 1),
        ({"saturation": 1.5}, 1),
        ({"hue": 0.05}, 1),
        ({"hue": -0.05}, 1),
        ({"channels": (2, 0, 1)}, 0),
    ],
)
def test_light_of_a_batch_is_that_of_each_but_for_a_level(pictures, change, most):
    one = Distort(**{**PLAIN, **change})
    changes = [one, None, one, Distort(**PLAIN)]

    apart = _levels_apart(pictures, changes)

    assert apart.max() <= most
    assert apart[[1, 3]].max() == 0
    assert not torch.equal(Distort.together(pictures, changes)[0], pictures[0])


def test_drawn_light_differs_by_a_few_levels_at_most_and_hardly_at_all(pictures):
    apart = []
    for seed in range(40):
        torch.manual_seed(seed)
        changes = [Distort.drawn(picture) for picture in pictures]
        apart.append(_levels_apart(pictures, changes))

    assert torch.stack(apart).max() <= 4
    assert torch.stack(apart).float().mean() < 0.02


def test_a_drawn_change_is_what_torchvision_would_do(pictures):
    for seed in range(8):
        torch.manual_seed(seed)
        wanted = v2.RandomPhotometricDistort(p=PHOTOMETRIC.p)(pictures[0])
        torch.manual_seed(seed)
        assert torch.equal(Distort.drawn(pictures[0]).applied(pictures[0]), wanted)
