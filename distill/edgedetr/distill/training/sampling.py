"""Which images make up each batch, at which size: in an order that a seed fixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from edgedetr.distill.config import DataConfig
    from edgedetr.distill.data import Truth

T = TypeVar("T")

SHARDS_MIXED = 8
"""Shards whose images an epoch mixes: those of a batch come from about as many."""
STRIDE = 32
"""The sides of a network's input are multiples of it."""


class Item(NamedTuple):
    """One image of a batch.

    Attributes:
        epoch: Counted from 0.
        image: Its index in the split.
        repeat: How often the epoch has had it before.
        scale: Share of its sides that it gets.
        mirrored: Whether it is mirrored where it is only mirrored; None leaves that to chance.
    """

    epoch: int
    image: int
    repeat: int = 0
    scale: float = 1.0
    mirrored: bool | None = None


@dataclass(frozen=True)
class Share:
    """Which part of every batch one process takes.

    Attributes:
        index: Which process it is, counted from 0.
        count: How many there are.
    """

    index: int = 0
    count: int = 1

    def of(self, items: Sequence[T]) -> list[T]:
        """Return the part of a sequence; all parts in turn are the whole.

        >>> [Share(i, 2).of("abcde") for i in range(2)]
        [['a', 'b'], ['c', 'd', 'e']]
        """
        first, end = (len(items) * i // self.count for i in (self.index, self.index + 1))
        return list(items[first:end])


ALONE = Share()
"""The whole of every batch, of the only process."""


class EpochOrder:
    """Yields the items of whole batches in the order of an epoch, or one process's share of each.

    Args:
        size: Images of the split.
        batch_size: Images of a batch, over all processes.
        seed: Of the order of every epoch.
        share: What one process takes of each batch.
        factors: How often an epoch has each image, (N,), at least 1; what is beyond whole numbers
            is a chance. None has each once.
        groups: Which group each image is of, (N,): a batch holds images of one. None is one group.
        scales: Shares of the sides of which each batch gets one.
        plain_from: The first epoch in which every batch has its own size; None for none.
        shards: Which shard each image lies in, (N,): an epoch goes through them in an order of its
            own and mixes the images of some neighbours. None mixes all images.

    Attributes:
        epoch: The epoch to come, counted from 0.
        done: How many of its batches are left out, as they were trained before.
    """

    def __init__(  # noqa: PLR0913 - one argument per setting
        self,
        size: int,
        batch_size: int,
        seed: int,
        *,
        share: Share = ALONE,
        factors: NDArray[np.float64] | None = None,
        groups: NDArray[np.int64] | None = None,
        scales: Sequence[float] = (1.0,),
        plain_from: int | None = None,
        shards: NDArray[np.int64] | None = None,
    ) -> None:
        self._batch_size, self._seed, self._share = batch_size, seed, share
        self._shards = shards
        self._scales, self._plain_from = tuple(scales), plain_from
        self._factors = np.ones(size) if factors is None else factors
        groups = np.zeros(size, np.int64) if groups is None else groups
        self._groups = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        self.epoch = self.done = 0

    @property
    def has_one_size(self) -> bool:
        """Whether all images of all batches have the same size."""
        return len(self._groups) == 1 and self._scales == (1.0,)

    def __len__(self) -> int:
        return sum(self._batches_of(group) for group in self._groups)

    def __iter__(self) -> Iterator[list[Item]]:
        yield from map(self._share.of, self.whole())

    def whole(self) -> Iterator[list[Item]]:
        """Yield what all processes together have of each batch."""
        rng = np.random.default_rng([self._seed, self.epoch])
        batches = [batch for group in self._groups for batch in self._drawn(group, rng)]
        if len(self._groups) > 1:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        scales = self._scales_of(len(batches))
        for pairs, scale in list(zip(batches, scales, strict=True))[self.done :]:
            yield [Item(self.epoch, index, repeat, scale) for index, repeat in pairs]

    @property
    def least_images(self) -> int:
        """How many images the smallest batch has: a group may hold fewer than a batch."""
        images = min(int(self._factors[group].sum() + 1e-6) for group in self._groups)
        return min(images, self._batch_size)

    def _batches_of(self, group: NDArray[np.int64]) -> int:
        whole = int(self._factors[group].sum() + 1e-6) // self._batch_size
        return max(1, whole)

    def _drawn(
        self, group: NDArray[np.int64], rng: np.random.Generator
    ) -> list[list[tuple[int, int]]]:
        """Draw the batches of a group, pairs of index and repeat; always equally many.

        One random offset decides of all fractions (systematic sampling): the number of images of an
        epoch varies by one.
        """
        factors, counts = self._factors[group], np.ones(len(group), np.int64)
        if (factors != 1).any():
            ends = np.floor(np.cumsum(factors) + rng.random() + 1e-6).astype(np.int64)
            counts = np.diff(ends, prepend=0)
        pairs = [
            (int(index), repeat)
            for index, count in zip(group, counts, strict=True)
            for repeat in range(count)
        ]
        order = self._order([index for index, _ in pairs], rng)
        size = self._batch_size
        return [
            [pairs[i] for i in order[step * size : (step + 1) * size]]
            for step in range(self._batches_of(group))
        ]

    def _order(self, images: list[int], rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the order of images, given by their indices."""
        if self._shards is None:
            return rng.permutation(len(images))
        return near_order(self._shards[images], rng)

    def _scales_of(self, batches: int) -> list[float]:
        plain = self._plain_from is not None and self.epoch >= self._plain_from
        if plain or self._scales == (1.0,):
            return [1.0] * batches
        rng = np.random.default_rng([self._seed, self.epoch, batches])
        return [self._scales[i] for i in rng.integers(len(self._scales), size=batches)]


def near_order(
    shards: NDArray[np.int64], rng: np.random.Generator, mixed: int = SHARDS_MIXED
) -> NDArray[np.int64]:
    """Draw an order that reads few shards at a time.

    The shards come in a random order; each image moves from its place in it by a random way of at
    most ``mixed`` mean shards.

    Args:
        shards: Which shard each image lies in, (N,).
        rng: Draws.
        mixed: Shards whose images mix; with no more than that, all images mix.

    Returns:
        Indices of the images, (N,).
    """
    names, numbers = np.unique(shards, return_inverse=True)
    if len(names) <= mixed:
        return rng.permutation(len(shards))
    sequence = np.argsort(rng.permutation(len(names))[numbers], kind="stable")
    ways = rng.random(len(shards)) * mixed * len(shards) / len(names)
    return sequence[np.argsort(np.arange(len(shards)) + ways, kind="stable")]


def scaled_hw(hw: Sequence[int], scale: float) -> tuple[int, int]:
    """Return a share of the sides of an input, rounded to what a network takes.

    >>> scaled_hw((96, 320), 0.75)
    (64, 256)
    """
    height, width = (max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in hw)
    return height, width


def training_sizes(config: DataConfig, input_hw: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the sizes (H, W) beside the student's own at which a run trains."""
    own = config.rectangular or (input_hw,)
    return sorted({scaled_hw(hw, scale) for hw in own for scale in config.scales} - {input_hw})


def repeat_factors(truths: Sequence[Truth], classes: int, threshold: float) -> NDArray[np.float64]:
    """Return how often an epoch has each image, so that rare classes are seen more often.

    Repeat-factor sampling (LVIS, app. B.2): ``max(1, sqrt(threshold / f))`` of the rarest class of
    an image, where ``f`` is the share of the images that hold that class.

    Args:
        truths: The labels of each image.
        classes: How many classes there are.
        threshold: Share of the images below which a class is repeated.
    """
    present = np.zeros((len(truths), classes), bool)
    for row, truth in zip(present, truths, strict=True):
        row[truth.labels] = True
    share = np.maximum(present.mean(0), 1e-12)
    factors = np.maximum(1, np.sqrt(threshold / share))
    found: NDArray[np.float64] = np.where(present, factors, 1.0).max(1)
    return found
