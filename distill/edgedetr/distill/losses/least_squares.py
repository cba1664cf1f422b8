"""The 1x1 convolution that maps a student's features to a teacher's best, in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

RIDGE = 1e-3
"""What is added to the mean square of a feature, as a share of it, so that few cells suffice."""


class LeastSquares:
    """Collects pairs of features cell by cell and gives the 1x1 convolution that maps them best."""

    def __init__(self) -> None:
        self._square: Tensor | None = None
        self._product: Tensor | None = None

    def add(self, inputs: Tensor, outputs: Tensor, weights: Tensor) -> None:
        """Take in cells.

        Args:
            inputs: (B, C, H, W).
            outputs: (B, D, H, W).
            weights: How much each cell counts, (B, H, W).
        """
        x = inputs.movedim(1, -1).flatten(0, -2).double()
        y = outputs.movedim(1, -1).flatten(0, -2).double()
        x = torch.cat([x, x.new_ones(len(x), 1)], 1)
        weighted = x * weights.flatten().double()[:, None]
        square, product = weighted.T @ x, weighted.T @ y
        self._square = square if self._square is None else self._square + square
        self._product = product if self._product is None else self._product + product

    def solve(self, adapter: nn.Conv2d) -> None:
        """Write the solution into an adapter (C to D); leave it where no cell counts."""
        if self._square is None or self._product is None or not self._square[-1, -1] > 0:
            return
        size = self._square[:-1, :-1].diagonal().mean()
        ridge = torch.full_like(self._square[0], RIDGE) * size
        ridge[-1] = 0
        found = torch.linalg.solve(self._square + ridge.diag(), self._product)
        adapter.weight.copy_(found[:-1].T[..., None, None])
        assert adapter.bias is not None  # noqa: S101 - adapters are made with one
        adapter.bias.copy_(found[-1])
