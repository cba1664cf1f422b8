"""The training split as a network sees it: augmented by a seed, scaled and normalised."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from typing_extensions import override

from edgedetr.distill.augmentations import Material, augmentations_of
from edgedetr.distill.augmentations.flip import mirrored, mirrors
from edgedetr.distill.picture import Picture, changed
from edgedetr.distill.pixel_changes import Resize
from edgedetr.distill.training.augment import augmented
from edgedetr.distill.training.sampling import Item, scaled_hw
from edgedetr.distill.types import Targets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgedetr.distill.training.answer_store import AnswerStore
    from edgedetr.distill.training.network_inputs import NetworkInputs

_FLIP = ("flip",)
_OF_VIEWS = 0x71657773
"""Stands for the seed of a run in that of a view, which is the same in every run."""


class TrainingInputs(TorchDataset[tuple[Tensor, Targets]]):
    """Augmented network inputs, indexed by an `Item` or its first values: (epoch, index).

    Args:
        inputs: The training split at network size.
        kind: How they are augmented: names of `edgedetr.distill.augmentations`, joined by ``+``.
        seed: Of every random choice, with the epoch and the image.
        plain_from: The first epoch, counted from 0, that only mirrors, if ``kind`` does; None for
            none.
        views: How many pictures augmentation makes of an image at most: epochs take them in turn,
            and every run has the same ones. 0 makes new ones in each epoch. Where images are only
            mirrored, there are two in any case.
        on_device: Whether pixels that are given with their truth are left as they are where the
            training device can change them: the truth has the changes.

    Attributes:
        answers: The store of the teacher's answers; None for none.
    """

    def __init__(
        self,
        inputs: NetworkInputs,
        kind: str,
        seed: int,
        plain_from: int | None = None,
        views: int = 0,
        *,
        on_device: bool = False,
    ) -> None:
        self._inputs, self._seed, self._plain_from = inputs, seed, plain_from
        self._views, self._on_device = views, on_device
        self.answers: AnswerStore | None = None
        self._names = augmentations_of(kind)
        self._plain = tuple(name for name in self._names if name in _FLIP)

    def __len__(self) -> int:
        return len(self._inputs)

    @property
    def only_mirrors(self) -> bool:
        """Whether the images and their mirror images are all that it gives, to a teacher too."""
        return self._names == _FLIP and self._inputs.views is None and self.answers is None

    @property
    def unlabelled(self) -> int:
        """How many of the frames have no labels."""
        return self._inputs.unlabelled

    @override
    def __getitem__(self, item: Any) -> tuple[Tensor, Targets]:
        item = self._decided(Item(*item))
        picture = self._picture(item, later=self._on_device)
        image, targets = self._inputs.finished(picture.pixels, picture.targets)
        if picture.changes:
            targets = replace(targets, changes=picture.changes)
        return image, targets if self.answers is None else self._answered(item, picture, targets)

    def picture(self, item: Item) -> Picture:
        """Give one augmented picture, before normalisation."""
        return self._picture(self._decided(item))

    def stored_items(self, item: Item) -> dict[str, Item]:
        """Name the pictures that a store keeps for an item; each comes with an item that gives it.

        It is one view, or where images are only mirrored the image and its mirror image.
        """
        sides = (False, True) if self._names_at(item.epoch) == _FLIP else (None,)
        sided = [item._replace(mirrored=side) for side in sides]
        return {self._name(one): one for one in sided}

    def _picture(self, item: Item, *, later: bool = False) -> Picture:
        picture = self._frame(item.image)
        if item.mirrored is None:
            names, material = self._names_at(item.epoch), self._material(item.image)
            picture = augmented(picture, names, self._seed_of(item), material, later=later)
        elif later:
            picture = replace(picture, changes=() if item.mirrored else (None,))
        if item.mirrored:
            picture = mirrored(picture)
        return picture if item.scale == 1 else _scaled(picture, item.scale, self._inputs.finer)

    def _names_at(self, epoch: int) -> tuple[str, ...]:
        plain = self._plain_from is not None and epoch >= self._plain_from
        return self._plain if plain else self._names

    def _decided(self, item: Item) -> Item:
        """Return an item that says whether it is mirrored, where nothing else happens to it."""
        if item.mirrored is not None or self._names_at(item.epoch) != _FLIP:
            return item
        return item._replace(mirrored=mirrors(np.random.default_rng(self._seed_of(item))))

    def _seed_of(self, item: Item) -> int:
        """Return the seed of everything that is random in an item's picture."""
        key = [self._seed, item.epoch, item.image]
        key += [item.repeat] if item.repeat else []
        if self._views and self._names_at(item.epoch) != _FLIP:
            key = [_OF_VIEWS, self._view(item), item.image]
        return int(np.random.SeedSequence(key).generate_state(1)[0])

    def _view(self, item: Item) -> int:
        return (item.epoch + item.repeat) % self._views

    def _name(self, item: Item) -> str:
        """Name the picture of an item whose sides are decided, for people too."""
        name = self._inputs.dataset.ids[item.image]
        if item.image >= len(self) - self.unlabelled:
            name += " (without labels)"
        if item.scale != 1:
            name += f", scale {item.scale:g}"
        if item.mirrored is not None:
            return name + ", mirrored" * item.mirrored
        return name + (f", view {self._view(item)}" if self._names_at(item.epoch) else "")

    def _answered(self, item: Item, picture: Picture, targets: Targets) -> Targets:
        """Add what the store has for a picture; the teacher's view of it is then of no more use."""
        assert self.answers is not None  # noqa: S101 - the caller saw to it
        view = targets.view
        seen = picture.pixels if view is None else view.pixels
        answer = self.answers.answer(seen, self._name(item), labelled=targets.labelled)
        whole = answer.features and (targets.labelled or answer.detections)
        if view is not None and whole:
            view = replace(view, pixels=view.pixels.new_zeros(()).expand_as(view.pixels))
        return replace(targets, view=view, answer=answer)

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

    def group(self, image: int) -> int:
        """Return which of several sizes an image gets."""
        return int(self._inputs.groups[image])

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
    return changed(picture, Resize((hw[0], hw[1])), picture.targets)
