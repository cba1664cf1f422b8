"""Augmentations, one file each; every file offers ``apply``.

They work on uint8 pixels at network size and on the truth beside them, before normalisation, so
that teacher and student see the same picture. Every random choice comes from the generator that
they are given: the same one gives the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from edgedetr.distill.picture import Picture

STRONG = ("flip", "zoom", "light")
"""What ``strong`` stands for."""


@dataclass(frozen=True, eq=False)
class Material:
    """What an augmentation may use beside the picture itself.

    Attributes:
        draw: Gives a frame of the split, of the same size as the picture, not augmented.
        pad_value: Grey level of areas that no image covers.
    """

    draw: Callable[[np.random.Generator], Picture]
    pad_value: int


class AugmentationModule(Protocol):
    """What a file in this folder must define.

    One with ``ON_DEVICE = True`` changes pixels by `edgedetr.distill.picture.changed` alone, once
    at most, and may leave that to the training device.
    """

    def apply(self, picture: Picture, rng: np.random.Generator, material: Material) -> Picture:
        """Augment a picture, or leave it: the chance is the file's. Its size stays."""
        ...


def first_on_device(names: Sequence[str]) -> int:
    """Return from which augmentation on all can be done on the training device.

    >>> first_on_device(("flip", "mosaic", "zoom", "light"))
    2
    """
    on_device = [getattr(augmentation(name), "ON_DEVICE", False) for name in names]
    return max((i + 1 for i, is_there in enumerate(on_device) if not is_there), default=0)


@cache
def augmentation(name: str) -> AugmentationModule:
    """Return an augmentation by its file name.

    Raises:
        UnknownNameError: If there is no such file; the message names the nearest.
    """
    return cast("AugmentationModule", find(__name__, name))


def augmentations_of(kind: str) -> tuple[str, ...]:
    """Return the names that a setting joins by ``+``, in its order.

    >>> augmentations_of("mosaic+strong")
    ('mosaic', 'flip', 'zoom', 'light')

    Raises:
        UnknownNameError: If there is no such augmentation.
        ValueError: If one is named twice.
    """
    names: list[str] = []
    for part in kind.split("+"):
        names += STRONG if part.strip() == "strong" else (part.strip(),)
    for name in names:
        augmentation(name)
    if len(set(names)) < len(names):
        raise ValueError(f"augment names one augmentation twice: {kind!r} is {'+'.join(names)}")
    return tuple(names)
