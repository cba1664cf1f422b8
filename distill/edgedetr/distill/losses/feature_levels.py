"""The feature levels that a student and its teacher have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align
from typing_extensions import override

from edgedetr.distill.losses.foreground_mask import cell_weights
from edgedetr.distill.losses.least_squares import LeastSquares
from edgedetr.distill.networks.precision import in_float32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch

Grid = tuple[int, int]


@dataclass(frozen=True, eq=False)
class LevelPair:
    """One level of both, on the grid of the student's.

    Attributes:
        student: Adapted to the teacher's width, (B, D, H, W).
        teacher: (B, D, H, W), without gradient.
        foreground: Weight of each cell by `cell_weights`, (B, H, W).
        background: The same of the background.
    """

    student: Tensor
    teacher: Tensor
    foreground: Tensor
    background: Tensor

    @property
    def counted(self) -> Tensor:
        """True where a cell is object or background: not padded, not ignored, (B, H, W)."""
        return (self.foreground + self.background) > 0


class PairedLevels(nn.Module):
    """Pairs levels by their stride, finest first, and adapts the student's by a 1x1 convolution.

    A memory of strides 8 to 32 and a pyramid of strides 4 to 64 have three levels in common. Where
    there is none, levels pair up that are nearest to one another. A teacher's level of another
    grid, because of its stride or because its input is another, is resampled to the student's
    (`resampled`). Where the widths agree nothing is adapted.

    Args:
        student: The model whose levels are adapted.
        teacher: The model whose levels are the targets.

    """

    def __init__(self, student: Model, teacher: Model) -> None:
        super().__init__()
        self.width = teacher.width
        self.pairs = _paired(student, teacher)
        self.adapters = nn.ModuleList(
            nn.Identity()
            if student.width == self.width
            else nn.Conv2d(student.width, self.width, 1)
            for _ in self.pairs
        )

    def __len__(self) -> int:
        return len(self.pairs)

    @override
    def forward(self, batch: Batch) -> tuple[LevelPair, ...]:
        """Return the pairs of one step."""
        mine = batch.memory.levels
        pairs = []
        for adapt, (s, t) in zip(self.adapters, self.pairs, strict=True):
            theirs, mask = _on_grid_of(batch, s, t)
            pairs.append(_pair(adapt, mine[s], theirs.detach(), cell_weights(batch.targets, mask)))
        return tuple(pairs)

    @torch.no_grad()
    def fit(self, batches: Sequence[Batch[Any, Any]]) -> None:
        """Set each adapter to the least squares over the cells of some batches.

        Cells count as in `cell_weights`: all of a box's as much as all of an image's background.
        """
        for adapter, (s, t) in zip(self.adapters, self.pairs, strict=True):
            if not isinstance(adapter, nn.Conv2d):
                continue
            squares = LeastSquares()
            for batch in batches:
                theirs, mask = _on_grid_of(batch, s, t)
                weights = cell_weights(batch.targets, mask)
                squares.add(batch.memory.levels[s], theirs, weights[0] + weights[1])
            squares.solve(adapter)


@in_float32
def _pair(
    adapt: nn.Module, student: Tensor, teacher: Tensor, weights: tuple[Tensor, Tensor]
) -> LevelPair:
    return LevelPair(adapt(student), teacher, *weights)


def _on_grid_of(batch: Batch[Any, Any], s: int, t: int) -> tuple[Tensor, Tensor]:
    """Return a teacher's level on the grid of a student's, and which cells of it count."""
    level, frame = batch.teacher_memory.levels[t], batch.teacher_memory.frame
    hw = batch.memory.levels[s].shape[-2:]
    if frame is None and level.shape[-2:] == hw:
        return level, batch.teacher_memory.masks[t]
    return resampled(level, frame, hw), batch.memory.masks[s]


@in_float32
def resampled(level: Tensor, frame: Tensor | None, hw: Sequence[int]) -> Tensor:
    """Resample a level (B, D, H, W) to another grid: each cell is the mean of what it covers.

    Args:
        level: A teacher's.
        frame: Where the student's input lies in the teacher's, see `Memory.frame`.
        hw: Height and width of the grid, over the student's input.
    """
    height, width = level.shape[-2:]
    if frame is None:
        frame = level.new_tensor([[1.0, 1.0, 0.0, 0.0]]).expand(len(level), 4)
    scale, shift = frame.chunk(2, -1)
    size = level.new_tensor([width, height])
    boxes = torch.cat([shift * size, (shift + scale) * size], 1)
    images = torch.arange(len(level), device=level.device)[:, None].to(level)
    found: Tensor = roi_align(
        level, torch.cat([images, boxes], 1), (int(hw[0]), int(hw[1])), aligned=True
    )
    return found


def _paired(student: Model, teacher: Model) -> tuple[tuple[int, int], ...]:
    """Return the indices of levels that belong together, student first."""
    sides = (student.spec.input_hw, teacher.spec.input_hw)
    hw = (max(h for h, _ in sides), max(w for _, w in sides))
    mine, theirs = _grids(student, hw), _grids(teacher, hw)
    pairs: list[tuple[int, int]] = []
    for index, grid in enumerate(mine):
        after = pairs[-1][1] + 1 if pairs else 0
        if grid in theirs[after:]:
            pairs.append((index, theirs.index(grid, after)))
    return tuple(pairs) or tuple(
        (s, t)
        for s, grid in enumerate(mine)
        for t in [_nearest(grid, theirs)]
        if _nearest(theirs[t], mine) == s
    )


def _nearest(grid: Grid, grids: tuple[Grid, ...]) -> int:
    """Return which grid has the number of cells nearest to another's, by their ratio."""
    off = [abs(math.log(prod(grid) / prod(other))) for other in grids]
    return off.index(min(off))


@torch.no_grad()
def _grids(model: Model, hw: Grid) -> tuple[Grid, ...]:
    """Return the grids of a model's levels, from a black image; batch norms stay as they are."""
    network = model.network
    training = network.training
    network.eval()
    try:
        memory = model.encode(next(network.parameters()).new_zeros(1, 3, *hw))
    finally:
        network.train(training)
    return tuple((level.shape[-2], level.shape[-1]) for level in memory.levels)
