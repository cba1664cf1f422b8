"""Images that are normalised for one model, normalised for another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from edgedetr.runtime.spec import ModelSpec


class Rescaling:
    """Turns images that are normalised one way into the same normalised another way.

    Args:
        given: How floating images are; uint8 ones are pixels.
        wanted: How they are to be.
    """

    def __init__(self, given: ModelSpec, wanted: ModelSpec) -> None:
        self._given, self._wanted = given, wanted

    def __call__(self, images: Tensor) -> Tensor:
        """Return float (B, 3, H, W); what is as wanted stays as it is, to the bit."""
        wanted = self._wanted
        if not images.is_floating_point():
            mean, std = (_channels(v, images) for v in (wanted.mean, wanted.std))
            return (images.float() / 255 - mean) / std
        given = self._given
        if (given.mean, given.std) == (wanted.mean, wanted.std):
            return images
        mean, std = (_channels(v, images) for v in (given.mean, given.std))
        new_mean, new_std = (_channels(v, images) for v in (wanted.mean, wanted.std))
        return (images * std + mean - new_mean) / new_std


def _channels(values: tuple[float, ...], images: Tensor) -> Tensor:
    return torch.tensor(values, device=images.device)[:, None, None]
