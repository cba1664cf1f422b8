"""Adapters from a student's features to a teacher's, set in closed form before training begins.

A random 1x1 convolution tells a student first of all how to please that convolution. A student that
took over its teacher's weights has most of the teacher's features already, as linear combinations
of its own: least squares finds them, and what is left of a feature loss is what the student lacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedetr.distill.methods import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn

    from edgedetr.distill.detectors import Targets
    from edgedetr.distill.training.distillation_model import Trainee
    from edgedetr.distill.training.loader import TrainingInputs

RIDGE = 1e-3
"""What is added to the mean square of a feature, as a share of it, so that few cells suffice."""

IMAGES = 64
"""How many training images adapters are fitted on."""


@torch.no_grad()
def fit_adapters(trainee: Trainee, batches: Iterable[tuple[Tensor, list[Targets]]]) -> None:
    """Fit the adapters of every method of a run on its first batches.

    The student's features are those of training; what its batch norms have seen stays as it was.

    Args:
        trainee: What will be trained; nothing happens where no method asks a teacher.
        batches: Network inputs (B, 3, H, W) and the truth of each image, on the trainee's device.
    """
    if trainee.teacher_memory is None:
        return
    before = {name: buffer.clone() for name, buffer in trainee.network.named_buffers()}
    training = trainee.training
    trainee.train()
    seen = [
        Batch(images, targets, trainee.encode(images), trainee.teacher_memory(images))
        for images, targets in batches
    ]
    trainee.train(training)
    for name, buffer in trainee.network.named_buffers():
        buffer.copy_(before[name])
    trainee.distillation.fit(seen)


def first_batches(
    data: TrainingInputs, batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, list[Targets]]]:
    """Give `IMAGES` of a run's images, those of the first epoch by their index, in batches."""
    images = min(IMAGES, len(data))
    for start in range(0, images, batch_size):
        items = [data[0, index] for index in range(start, min(start + batch_size, images))]
        pixels = torch.stack([image for image, _ in items])
        yield pixels.to(device), [truth.to(device) for _, truth in items]


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
