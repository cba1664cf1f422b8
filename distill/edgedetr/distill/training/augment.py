"""Augmentation of network inputs, replayable: the same seed gives the same picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

MIN_VISIBLE = 0.3
"""An object of which a crop leaves less than this share becomes an ignored area."""

MIN_SIDE_PX = 2.0
"""So does one that is smaller than this afterwards, in pixels of the network's input."""

SMALLEST_CROP = 0.6
"""Smallest side of a zoom's crop, as a share of the image's."""

if TYPE_CHECKING:
    from edgedetr.distill.types import Targets

    Kind = Literal["flip", "strong"]

_light = v2.RandomPhotometricDistort(p=0.5)


def augmented(image: Tensor, targets: Targets, kind: Kind, seed: int) -> tuple[Tensor, Targets]:
    """Augment one image.

    Args:
        image: uint8 (3, H, W), the network's input before normalisation.
        targets: Its truth, cxcywh in [0, 1].
        kind: ``flip`` mirrors half of the images; ``strong`` also zooms into half of them and
            changes light and colour.
        seed: Of every random choice; torch's global generator is left as it was.
    """
    rng = np.random.default_rng(seed)
    if rng.random() < 0.5:
        image, targets = _mirrored(image, targets)
    if kind == "strong":
        if rng.random() < 0.5:
            image, targets = _zoomed(image, targets, rng)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            image = _light(image)
    return image, targets


def _mirrored(image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    def mirror(boxes: Tensor) -> Tensor:
        return torch.cat([1 - boxes[:, :1], boxes[:, 1:]], dim=1)

    return functional.horizontal_flip(image), replace(
        targets,
        boxes=mirror(targets.boxes),
        ignored=mirror(targets.ignored),
        picture=None if targets.picture is None else mirror(targets.picture),
    )


def _zoomed(image: Tensor, targets: Targets, rng: np.random.Generator) -> tuple[Tensor, Targets]:
    """Crop and enlarge to the same size, aspect ratio kept."""
    height, width = image.shape[-2:]
    side = rng.uniform(SMALLEST_CROP, 1)
    crop_hw = round(height * side), round(width * side)
    top, left = (
        int(rng.integers(n - c + 1)) for n, c in zip((height, width), crop_hw, strict=True)
    )
    image = functional.resized_crop(image, top, left, *crop_hw, size=[height, width])
    size = torch.tensor([width, height, width, height])
    origin = torch.tensor([left, top, left, top])
    crop = torch.tensor([crop_hw[1], crop_hw[0], crop_hw[1], crop_hw[0]])

    def into_crop(boxes: Tensor) -> tuple[Tensor, Tensor]:
        whole = (box_convert(boxes, "cxcywh", "xyxy") * size - origin) / crop
        seen = whole.clamp(0, 1)
        share = _area(seen) / _area(whole).clamp(min=1e-9)
        return box_convert(seen, "xyxy", "cxcywh"), share

    boxes, share = into_crop(targets.boxes)
    ignored, _ = into_crop(targets.ignored)
    side_px = (boxes[:, 2:] * torch.tensor([width, height])).amin(1)
    kept = (share >= MIN_VISIBLE) & (side_px >= MIN_SIDE_PX)
    rest = torch.cat([ignored, boxes[~kept]])
    rest = rest[rest[:, 2:].amin(1) > 0]
    picture = None if targets.picture is None else into_crop(targets.picture)[0]
    return image, replace(
        targets, labels=targets.labels[kept], boxes=boxes[kept], ignored=rest, picture=picture
    )


def _area(corners: Tensor) -> Tensor:
    return (corners[:, 2:] - corners[:, :2]).clamp(min=0).prod(1)
