"""Augmentation of network inputs, replayable: the same seed gives the same picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.distill.augmentations import Material, augmentation, first_on_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from edgedetr.distill.picture import Picture
    from edgedetr.distill.types import Targets


def augmented(
    picture: Picture, names: Sequence[str], seed: int, material: Material, *, later: bool = False
) -> Picture:
    """Augment one picture.

    Args:
        picture: The network's input before normalisation, and its truth.
        names: Augmentations, in the order in which they are applied.
        seed: Of every random choice; torch's global generator is left as it was.
        material: What augmentations may use beside the picture.
        later: Whether what can be done on the training device is left to it: the picture then has
            one change, or none, of each augmentation that can.
    """
    rng = np.random.default_rng(seed)
    first = first_on_device(names) if later else len(names)
    for name in names[:first]:
        picture = augmentation(name).apply(picture, rng, material)
    if not later:
        return picture
    picture = replace(picture, changes=())
    for count, name in enumerate(names[first:], 1):
        picture = augmentation(name).apply(picture, rng, material)
        if picture.changes is not None and len(picture.changes) < count:
            picture = replace(picture, changes=(*picture.changes, None))
    return picture


def augmented_on_device(images: Tensor, targets: Sequence[Targets]) -> Tensor:
    """Do to a batch of pixels what was left to the training device.

    Args:
        images: uint8 (B, 3, H, W) on the device; what is normalised already has no changes.
        targets: The truth of each, with as many changes.
    """
    for changes in zip(*(t.changes for t in targets), strict=True):
        kind = next((type(change) for change in changes if change is not None), None)
        if kind is not None:
            images = kind.together(images, changes)
    return images
