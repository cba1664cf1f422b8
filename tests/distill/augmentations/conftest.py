"""Frames whose objects and ignored areas have a colour each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from edgedetr.distill.augmentations import Material
from edgedetr.distill.picture import Picture
from edgedetr.distill.types import Targets
from edgedetr.runtime.draw import class_colour

if TYPE_CHECKING:
    from collections.abc import Callable

HW = (96, 160)
BOXES = ((4, 8, 30, 60), (40, 30, 75, 80), (100, 50, 140, 90))
AREA = (100, 4, 150, 30)
"""Corners in pixels of the objects and the ignored area of a frame, moved by a few from frame to
frame."""


def colour_of(label: int) -> torch.Tensor:
    """The colour of an object or, behind all of them, of an ignored area."""
    return torch.tensor(class_colour(label), dtype=torch.uint8)


@pytest.fixture
def make_frame() -> Callable[[int], Picture]:
    """Makes frame 0 to 3: object i of it has class 3 * number + i, its ignored area 12 + number."""

    def make(number: int) -> Picture:
        height, width = HW
        pixels = torch.zeros(3, height, width, dtype=torch.uint8)
        corners = torch.tensor([*BOXES, AREA]) + number * torch.tensor([3, 1, 3, 1])
        labels = [3 * number, 3 * number + 1, 3 * number + 2, 12 + number]
        for (x0, y0, x1, y1), label in zip(corners.tolist(), labels, strict=True):
            pixels[:, y0:y1, x0:x1] = colour_of(label)[:, None, None]
        low, high = corners[:, :2], corners[:, 2:]
        boxes = torch.cat([(low + high) / 2, high - low], 1) / torch.tensor([width, height] * 2)
        targets = Targets(torch.tensor(labels[:3]), boxes[:3], boxes[3:], f"frame {number}")
        return Picture(pixels, targets)

    return make


@pytest.fixture
def material(make_frame: Callable[[int], Picture]) -> Material:
    """Gives frames 1 to 3 in turn; what nothing covers is grey 114."""
    numbers = iter(range(10**6))
    return Material(lambda _: make_frame(1 + next(numbers) % 3), pad_value=114)
