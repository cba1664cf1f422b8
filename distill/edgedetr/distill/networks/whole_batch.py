"""What a loss needs of a whole batch where a pass sees only a part of its images.

A part is what one of several processes has of a batch, or one of several passes whose gradients add
up. Losses are sums over images that are divided by figures of the whole batch, so that the sum over
all parts is what one pass over all images gives. Random numbers are drawn for all images, from one
seed everywhere, and a part takes its rows. Outside of `part_of` every function is the plain one.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgedetr.distill.types import Targets

T = TypeVar("T")


class Sums(Protocol):
    """Adds up values over the parts of a batch; every part asks for the same ones, in turn."""

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over the parts, without gradient."""
        ...

    def count(self, value: int) -> int:
        """Return the sum over the parts."""
        ...

    def every(self, values: list[Any]) -> tuple[list[Any], int]:
        """Join the lists of all parts that compute at this moment; tell where this one's begins."""
        ...

    def gathered(self, rows: Tensor) -> tuple[Tensor, int]:
        """Join tensors (n, ...) like `every`, without gradient."""
        ...

    def summed(self, value: Tensor) -> Tensor:
        """Return the sum over the parts that compute at this moment, with gradient."""
        ...


@dataclass(frozen=True, eq=False)
class Part:
    """The images that a pass has of a batch.

    Attributes:
        targets: The truth of every image of the batch.
        rows: Which of them the pass has, rising.
        sums: Adds up over the parts.
    """

    targets: tuple[Targets, ...]
    rows: tuple[int, ...]
    sums: Sums

    def of_labelled(self) -> Part:
        """Return the part of the images that have labels."""
        known = [i for i, t in enumerate(self.targets) if t.labelled]
        place = {row: i for i, row in enumerate(known)}
        rows = tuple(place[row] for row in self.rows if row in place)
        return replace(self, targets=tuple(self.targets[i] for i in known), rows=rows)


_current: list[Part] = []


@contextmanager
def part_of(part: Part | None) -> Iterator[None]:
    """Let losses and batch norms know which part of a batch a pass has; None for all of it."""
    if part is None:
        yield
        return
    _current.append(part)
    try:
        yield
    finally:
        _current.pop()


def current_part() -> Part | None:
    """Return the part that the pass at hand has; None where it has the whole batch."""
    return _current[-1] if _current else None


@contextmanager
def labelled_part() -> Iterator[None]:
    """Look at the images of the batch that have labels."""
    part = current_part()
    with part_of(part and part.of_labelled()):
        yield


def total(value: Tensor) -> Tensor:
    """Return the sum of a tensor over the parts of the batch, without gradient."""
    part = current_part()
    return value if part is None else part.sums.total(value.detach())


def summed(value: Tensor) -> Tensor:
    """Return the sum over the processes, with gradient; passes one after another have their own."""
    part = current_part()
    return value if part is None else part.sums.summed(value)


def count(value: int) -> int:
    """Return the sum of a number over the parts of the batch."""
    part = current_part()
    return value if part is None else part.sums.count(value)


def share(own: int, least: int = 0) -> float:
    """Return what a mean over ``own`` values counts in that over the whole batch.

    Args:
        own: Values of this part.
        least: What both means are at least divided by.
    """
    part = current_part()
    return 1.0 if part is None else max(least, own) / max(least, 1, part.sums.count(own))


def mean(values: Tensor) -> Tensor:
    """Return the sum of one value an image, (B,), divided by the images of the whole batch."""
    part = current_part()
    return values.mean() if part is None else values.sum() / len(part.targets)


def images(own: int) -> int:
    """Return how many images the whole batch has."""
    part = current_part()
    return own if part is None else len(part.targets)


def sizes(own: Sequence[int]) -> Sequence[int]:
    """Return how many objects each image of the whole batch has."""
    part = current_part()
    return own if part is None else [len(t.labels) for t in part.targets]


def for_every_image(
    targets: Sequence[Targets], draw: Callable[[Sequence[Targets]], list[T]]
) -> list[T]:
    """Draw something for every image of the whole batch; return that of this part's images.

    Args:
        targets: The truth of this part's images.
        draw: Returns one value an image.
    """
    part = current_part()
    if part is None:
        return draw(targets)
    drawn = draw(part.targets)
    return [drawn[row] for row in part.rows]


def drawn(draw: Callable[[tuple[int, ...]], Tensor], shape: Sequence[int]) -> Tensor:
    """Draw a tensor (B, ...) for every image of the whole batch; return this part's rows.

    Args:
        draw: Makes a random tensor of a shape.
        shape: That of this part's rows.
    """
    part = current_part()
    if part is None:
        return draw(tuple(shape))
    return draw((len(part.targets), *shape[1:]))[list(part.rows)]


def every(values: list[T]) -> tuple[list[T], int]:
    """Join what is known of each image, over the processes; tell where this process's begin."""
    part = current_part()
    return (values, 0) if part is None else part.sums.every(values)


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """Join the rows (n, ...) of all processes, without gradient; tell where this one's begin."""
    part = current_part()
    return (rows, 0) if part is None else part.sums.gathered(rows)


def permutations(lengths: Sequence[Sequence[int]], device: torch.device) -> list[list[Tensor]]:
    """Draw random orders of so many things, image by image, in the order of the whole batch.

    Args:
        lengths: Of each image, the numbers of things that are ordered one after another.
        device: Where the orders lie.
    """
    known, first = every([tuple(numbers) for numbers in lengths])
    orders = [[torch.randperm(n, device=device) for n in numbers] for numbers in known]
    return orders[first : first + len(lengths)]
