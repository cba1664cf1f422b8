"""Augmentation of network inputs, replayable: the same seed gives the same picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedetr.distill.augmentations import Material, augmentation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.picture import Picture


def augmented(picture: Picture, names: Sequence[str], seed: int, material: Material) -> Picture:
    """Augment one picture.

    Args:
        picture: The network's input before normalisation, and its truth.
        names: Augmentations, in the order in which they are applied.
        seed: Of every random choice; torch's global generator is left as it was.
        material: What augmentations may use beside the picture.
    """
    rng = np.random.default_rng(seed)
    for name in names:
        picture = augmentation(name).apply(picture, rng, material)
    return picture
