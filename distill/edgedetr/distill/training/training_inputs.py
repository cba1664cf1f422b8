"""The training split as a network sees it: augmented by a seed, scaled and normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.v2 import functional
from typing_extensions import override

from edgedetr.distill.augmentations import Material, augmentations_of
from edgedetr.distill.picture import Picture
from edgedetr.distill.training.augment import augmented
from edgedetr.distill.training.sampling import Item, scaled_hw
from edgedetr.distill.types import Targets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgedetr.distill.training.network_inputs import NetworkInputs


class TrainingInputs(TorchDataset[tuple[Tensor, Targets]]):
    """Augmented network inputs, indexed by an `Item` or its first values: (epoch, index).

    Args:
        inputs: The training split at network size.
        kind: How they are augmented: names of `edgedetr.distill.augmentations`, joined by ``+``.
        seed: Of every random choice, with the epoch and the image.
        plain_from: The first epoch, counted from 0, that only mirrors, if ``kind`` does; None for
            none.
    """

    def __init__(
        self, inputs: NetworkInputs, kind: str, seed: int, plain_from: int | None = None
    ) -> None:
        self._inputs, self._seed, self._plain_from = inputs, seed, plain_from
        self._names = augmentations_of(kind)
        self._plain = tuple(name for name in self._names if name == "flip")

    def __len__(self) -> int:
        return len(self._inputs)

    @property
    def only_mirrors(self) -> bool:
        """Whether the images and their mirror images are all that it gives, to a teacher too."""
        return self._names == ("flip",) and self._inputs.views is None

    @property
    def unlabelled(self) -> int:
        """How many of the frames have no labels."""
        return self._inputs.unlabelled

    @override
    def __getitem__(self, item: Any) -> tuple[Tensor, Targets]:
        item = Item(*item)
        picture = self.picture(item)
        return self._inputs.finished(picture.pixels, picture.targets)

    def picture(self, item: Item) -> Picture:
        """Give one augmented picture, before normalisation."""
        key = [self._seed, item.epoch, item.image]
        key += [item.repeat] if item.repeat else []
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        plain = self._plain_from is not None and item.epoch >= self._plain_from
        names = self._plain if plain else self._names
        picture = augmented(self._frame(item.image), names, seed, self._material(item.image))
        return picture if item.scale == 1 else _scaled(picture, item.scale, self._inputs.finer)

    def _frame(self, index: int) -> Picture:
        inputs = self._inputs[index]
        return Picture(inputs.pixels, inputs.targets)

    def stand_ins(self, image: int) -> Iterator[int]:
        """Give an image, and then those that may take its place, the next one first."""
        yield image
        alike = self._alike(image)
        place = int(np.searchsorted(alike, image))
        yield from (int(i) for i in (*alike[place + 1 :], *alike[:place]))

    def _alike(self, image: int) -> NDArray[np.int64]:
        """Return the images that get the same size as one does, with labels only if it has."""
        groups, first = self._inputs.groups, len(self) - self.unlabelled
        labelled = np.arange(len(self)) < first
        return np.flatnonzero((groups == groups[image]) & (labelled == (image < first)))

    def _material(self, index: int) -> Material:
        """Give other frames of an image's kind."""

        def draw(rng: np.random.Generator) -> Picture:
            return self._frame(int(rng.choice(self._alike(index))))

        return Material(draw, self._inputs.pad_value)

    def read(self) -> None:
        """Read all images at once, see `NetworkInputs.read`."""
        self._inputs.read()

    def mirrored_too(self, count: int) -> Iterator[Tensor]:
        """Give all that the augmentation ``flip`` makes, ``count`` images at a time.

        Yields:
            Network inputs (2 * count, 3, H, W): some images, then the same ones mirrored.
        """
        for start in range(0, len(self), count):
            some = range(start, min(start + count, len(self)))
            images = torch.stack([self._inputs.normalised(self._inputs[i].pixels) for i in some])
            yield torch.cat([images, images.flip(-1)])


def _scaled(picture: Picture, scale: float, finer: tuple[int, int]) -> Picture:
    """Resize a picture to a share of its sides, so that the student's input is what it can take."""
    own = scaled_hw([side // k for side, k in zip(picture.hw, finer, strict=True)], scale)
    hw = [side * k for side, k in zip(own, finer, strict=True)]
    return Picture(functional.resize(picture.pixels, hw), picture.targets)
