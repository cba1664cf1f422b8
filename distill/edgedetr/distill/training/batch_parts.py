"""Sums over the parts of a batch: over processes, and over passes one after another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed
from typing_extensions import override

from edgedetr.distill.networks.whole_batch import Part, current_part
from edgedetr.distill.training.sampling import Share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.distributed import ProcessGroup

    from edgedetr.distill.networks.whole_batch import Sums
    from edgedetr.distill.types import Targets


class RankSums:
    """Adds up over the processes of a run.

    Args:
        group: The processes, on their devices.
        host: The same ones for what lies in the host's memory.
    """

    def __init__(self, group: ProcessGroup, host: ProcessGroup) -> None:
        self._group, self._host = group, host

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over the processes, without gradient."""
        found = value.detach().clone()
        distributed.all_reduce(found, group=self._group)
        return found

    def count(self, value: int) -> int:
        """Return the sum over the processes."""
        found = torch.tensor(value)
        distributed.all_reduce(found, group=self._host)
        return int(found)

    def every(self, values: list[Any]) -> tuple[list[Any], int]:
        """Join the lists of all processes; tell where this one's begins."""
        found: list[Any] = [None] * distributed.get_world_size(self._host)
        distributed.all_gather_object(found, values, self._host)
        first = sum(len(some) for some in found[: distributed.get_rank(self._host)])
        return [value for some in found for value in some], first

    def gathered(self, rows: Tensor) -> tuple[Tensor, int]:
        """Join the rows (n, ...) of all processes, without gradient; n may differ."""
        lengths, rank = self.every([len(rows)])
        filled = rows.new_zeros((max(lengths), *rows.shape[1:]))
        filled[: len(rows)] = rows.detach()
        found = [torch.empty_like(filled) for _ in lengths]
        distributed.all_gather(found, filled, self._group)
        joined = torch.cat([some[:n] for some, n in zip(found, lengths, strict=True)])
        return joined, sum(lengths[:rank])

    def summed(self, value: Tensor) -> Tensor:
        """Return the sum over the processes, with gradient."""
        found: Tensor = _Summed.apply(value, self._group)
        return found


class _Summed(torch.autograd.Function):
    """A sum over processes; the gradient of each summand is the sum of all gradients of it."""

    @override
    @staticmethod
    def forward(ctx: Any, value: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        found = value.clone()
        distributed.all_reduce(found, group=group)
        return found

    @override
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        found = gradients[0].contiguous().clone()
        distributed.all_reduce(found, group=ctx.group)
        return found, None


class PassSums:
    """Adds up over passes one after another, of which each sees some images of a batch.

    A first round of passes, without gradient, notes what each part asks for; in the second every
    part is given the sums. Where losses ask for nothing the first round can be left out.

    Args:
        processes: Adds up over the processes; None where there is one.
    """

    def __init__(self, processes: Sums | None) -> None:
        self._processes = processes
        self._noted: list[list[Tensor | int]] = []
        self._sums: list[Tensor | int] | None = None
        self._asked = 0

    @property
    def is_asked(self) -> bool:
        """Whether the passes that were noted asked for any sum."""
        return any(self._noted)

    def begin(self) -> None:
        """Begin a pass of the first round."""
        self._noted.append([])

    def begin_with_sums(self) -> None:
        """Begin a pass of the second round."""
        if self._sums is None:
            self._sums = [_sum(parts) for parts in zip(*self._noted, strict=True)]
        self._asked = 0

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over the passes, without gradient; in the first round the part itself."""
        own = value.detach() if self._processes is None else self._processes.total(value)
        found = self._of_all(own)
        assert isinstance(found, Tensor)  # noqa: S101 - passes ask for the same in the same order
        return found

    def count(self, value: int) -> int:
        """Return the sum over the passes; in the first round the part itself."""
        found = self._of_all(value if self._processes is None else self._processes.count(value))
        return int(found)

    def every(self, values: list[Any]) -> tuple[list[Any], int]:
        """Join the lists of the pass at hand, of all processes."""
        return (values, 0) if self._processes is None else self._processes.every(values)

    def gathered(self, rows: Tensor) -> tuple[Tensor, int]:
        """Join the rows of the pass at hand, of all processes."""
        return (rows, 0) if self._processes is None else self._processes.gathered(rows)

    def summed(self, value: Tensor) -> Tensor:
        """Return the sum of the pass at hand over all processes, with gradient."""
        return value if self._processes is None else self._processes.summed(value)

    def _of_all(self, own: Tensor | int) -> Tensor | int:
        if self._sums is None:
            self._noted[-1].append(own)
            return own
        self._asked += 1
        return self._sums[self._asked - 1]


def _sum(parts: Sequence[Tensor | int]) -> Tensor | int:
    found = parts[0]
    for part in parts[1:]:
        found = found + part
    return found


def parts_of(
    everyone: Sequence[Sequence[Targets]], own: int, passes: int, sums: Sums
) -> list[tuple[list[int], Part]]:
    """Return the images and the part of the batch of each pass of one process.

    The images of a batch are in the order in which one process would have them: those with labels
    first, and process by process.

    Args:
        everyone: The truth of the images of each process.
        own: Index of this process.
        passes: How many passes it takes them in.
        sums: Adds up over the parts.
    """
    places = [(rank, i) for rank, some in enumerate(everyone) for i in range(len(some))]
    places.sort(key=lambda place: not everyone[place[0]][place[1]].labelled)
    targets = tuple(everyone[rank][i] for rank, i in places)
    rows = {i: row for row, (rank, i) in enumerate(places) if rank == own}
    mine = pass_rows(everyone[own], passes)
    return [(some, Part(targets, tuple(rows[i] for i in some), sums)) for some in mine]


def part_with(found: Sequence[Targets]) -> Part | None:
    """Return the part at hand with what stands for labels in frames that have none.

    Passes one after another know that of their own images alone, and draw with labels elsewhere.

    Args:
        found: The truth of this part's images, or what a teacher found in them.
    """
    part = current_part()
    if part is None or all(t.labelled for t in part.targets):
        return part
    device = found[0].boxes.device
    mine = without_views(found, torch.device("cpu"))
    known, _ = part.sums.every(list(zip(part.rows, mine, strict=True)))
    targets = list(part.targets)
    for row, some in known:
        targets[row] = some.to(device)
    return replace(part, targets=tuple(targets))


def pass_rows(targets: Sequence[Targets], passes: int) -> list[list[int]]:
    """Return which images each pass takes: as many with labels, and as many without, in order."""
    kinds = [[i for i, t in enumerate(targets) if t.labelled is kind] for kind in (True, False)]
    return [[i for some in kinds for i in Share(k, passes).of(some)] for k in range(passes)]


def without_views(targets: Sequence[Targets], device: torch.device) -> list[Targets]:
    """Return truth without what only the process that has the image needs."""
    return [
        replace(t.to(device), view=None, picture=None, answer=None, changes=()) for t in targets
    ]
