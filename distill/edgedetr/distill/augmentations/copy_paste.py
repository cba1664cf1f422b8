"""Paste objects of another frame where they hide nothing (Simple Copy-Paste, with boxes)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.ops import box_convert

from edgedetr.distill.picture import Picture, Window, joined

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from edgedetr.distill.augmentations import Material
    from edgedetr.distill.types import Targets

PROBABILITY = 0.5

MOST_OBJECTS = 3
"""Objects that are pasted at once, at most."""

MOST_COVERED = 0.1
"""Share of an object that others may cover, where it comes from and where it goes."""

ATTEMPTS = 10


@dataclass(frozen=True, eq=False)
class _Object:
    """An object of another frame: its box (1, 4) and class (1,), and the pixels that it takes."""

    box: Tensor
    label: Tensor
    window: Window


def apply(picture: Picture, rng: np.random.Generator, material: Material) -> Picture:
    """Paste some objects of one other frame, at their height and size, at other columns.

    Only an object that is seen whole is taken, and it is put only where it hides no object and no
    ignored area.
    """
    if rng.random() >= PROBABILITY:
        return picture
    other = material.draw(rng)
    pixels, targets = picture.pixels.clone(), picture.targets
    for found in _whole_objects(other, rng):
        shift = _place(found, targets, picture, rng)
        if shift is None:
            continue
        part = found.window
        rows = slice(part.top, part.top + part.height)
        taken = other.pixels[:, rows, part.left : part.left + part.width]
        pixels[:, rows, part.left + shift : part.left + shift + part.width] = taken
        box = found.box + torch.tensor([shift / picture.hw[1], 0, 0, 0])
        pasted = replace(other.targets, labels=found.label, boxes=box, ignored=targets.ignored[:0])
        targets = joined([targets, pasted], targets.picture)
    return Picture(pixels, targets)


def _whole_objects(frame: Picture, rng: np.random.Generator) -> Iterator[_Object]:
    """Yield objects of a frame that nothing covers, in random order, at most `MOST_OBJECTS`."""
    targets, (height, width) = frame.targets, frame.hw
    count = 0
    for index in rng.permutation(len(targets.boxes)).tolist():
        box = targets.boxes[index : index + 1]
        rest = torch.cat([targets.boxes[:index], targets.boxes[index + 1 :], targets.ignored])
        if count == MOST_OBJECTS or _share_in(box, rest) > MOST_COVERED:
            continue
        x0, y0, x1, y1 = box_convert(box, "cxcywh", "xyxy")[0].clamp(0, 1).tolist()
        top, left = math.floor(y0 * height), math.floor(x0 * width)
        rows, columns = math.ceil(y1 * height) - top, math.ceil(x1 * width) - left
        if rows > 0 and columns > 0:
            count += 1
            yield _Object(box, targets.labels[index : index + 1], Window(top, left, rows, columns))


def _place(
    found: _Object, targets: Targets, picture: Picture, rng: np.random.Generator
) -> int | None:
    """Return how many columns to the right an object goes; None where there is no room."""
    area, part, width = picture.content, found.window, picture.hw[1]
    fits = part.top >= area.top and part.top + part.height <= area.top + area.height
    if not fits or part.width > area.width:
        return None
    others = torch.cat([targets.boxes, targets.ignored])
    for _ in range(ATTEMPTS):
        left = area.left + int(rng.integers(area.width - part.width + 1))
        shift = left - part.left
        box = found.box + torch.tensor([shift / width, 0, 0, 0])
        if all(_share_in(other[None], box) <= MOST_COVERED for other in others) and (
            _share_in(box, others) <= MOST_COVERED
        ):
            return shift
    return None


def _share_in(box: Tensor, others: Tensor) -> float:
    """Return the largest share of a box (1, 4) that one of others (N, 4) covers."""
    if not len(others):
        return 0.0
    one, many = (box_convert(b, "cxcywh", "xyxy") for b in (box, others))
    low, high = torch.maximum(one[:, :2], many[:, :2]), torch.minimum(one[:, 2:], many[:, 2:])
    covered = (high - low).clamp(min=0).prod(1) / (box[:, 2:].prod().clamp(min=1e-9))
    return float(covered.max())
