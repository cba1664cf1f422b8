"""Mirror half of the pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from edgedetr.distill.picture import Picture, changed
from edgedetr.distill.pixel_changes import Mirror

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from edgedetr.distill.augmentations import Material

PROBABILITY = 0.5

ON_DEVICE = True


def apply(picture: Picture, rng: np.random.Generator, _: Material) -> Picture:
    """Mirror left and right, or not."""
    return mirrored(picture) if mirrors(rng) else picture


def mirrors(rng: np.random.Generator) -> bool:
    """Choose whether to mirror."""
    return bool(rng.random() < PROBABILITY)


def mirrored(picture: Picture) -> Picture:
    """Mirror left and right."""
    targets = picture.targets
    return changed(
        picture,
        Mirror(),
        replace(
            targets,
            boxes=_mirrored(targets.boxes),
            ignored=_mirrored(targets.ignored),
            picture=None if targets.picture is None else _mirrored(targets.picture),
        ),
    )


def _mirrored(boxes: Tensor) -> Tensor:
    return torch.cat([1 - boxes[:, :1], boxes[:, 1:]], dim=1)
