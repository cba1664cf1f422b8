"""The feature levels that a student and its teacher have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from edgedetr.distill.losses.foreground_mask import cell_weights
from edgedetr.distill.losses.least_squares import LeastSquares
from edgedetr.distill.networks.precision import in_float32
from edgedetr.runtime.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch

Grid = tuple[int, int]


@dataclass(frozen=True, eq=False)
class LevelPair:
    """One level of both, on the same grid.

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
    """Pairs levels by their grid, finest first, and adapts the student's by a 1x1 convolution.

    Levels pair up where both have the same height and width on the student's input, so a memory of
    strides 8 to 32 and a pyramid of strides 4 to 64 have three levels in common. Where the widths
    agree nothing is adapted.

    Args:
        student: The model whose levels are adapted.
        teacher: The model whose levels are the targets.

    Raises:
        SettingsError: If no level has the same grid.
    """

    def __init__(self, student: Model, teacher: Model) -> None:
        super().__init__()
        self.width = teacher.width
        self.pairs = _same_grids(student, teacher)
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
        mine, theirs = batch.memory.levels, batch.teacher_memory.levels
        masks = batch.teacher_memory.masks
        return tuple(
            _pair(adapt, mine[s], theirs[t].detach(), cell_weights(batch.targets, masks[t]))
            for adapt, (s, t) in zip(self.adapters, self.pairs, strict=True)
        )

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
                weights = cell_weights(batch.targets, batch.teacher_memory.masks[t])
                mine, theirs = batch.memory.levels[s], batch.teacher_memory.levels[t]
                squares.add(mine, theirs, weights[0] + weights[1])
            squares.solve(adapter)


@in_float32
def _pair(
    adapt: nn.Module, student: Tensor, teacher: Tensor, weights: tuple[Tensor, Tensor]
) -> LevelPair:
    return LevelPair(adapt(student), teacher, *weights)


def _same_grids(student: Model, teacher: Model) -> tuple[tuple[int, int], ...]:
    """Return the indices of levels with the same grid, student first."""
    hw = student.spec.input_hw
    mine, theirs = _grids(student, hw), _grids(teacher, hw)
    pairs: list[tuple[int, int]] = []
    for index, grid in enumerate(mine):
        after = pairs[-1][1] + 1 if pairs else 0
        if grid in theirs[after:]:
            pairs.append((index, theirs.index(grid, after)))
    if not pairs:
        raise SettingsError(
            f"{student.family}/{student.preset} has levels of {_listed(mine)} cells, its teacher "
            f"{teacher.family}/{teacher.preset} of {_listed(theirs)}, none in common; choose "
            "presets with a stride in common"
        )
    return tuple(pairs)


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


def _listed(grids: tuple[Grid, ...]) -> str:
    return ", ".join(f"{h}x{w}" for h, w in grids)
