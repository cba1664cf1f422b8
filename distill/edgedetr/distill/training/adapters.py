"""Adapters from a student's features to a teacher's, set in closed form before training begins.

A random 1x1 convolution makes a student fit that convolution first of all. A student that took over
its teacher's weights has most of the teacher's features already, as linear combinations of its own:
least squares finds them, and what is left of a feature loss is what the student lacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedetr.distill.training.augment import augmented_on_device
from edgedetr.distill.types import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from edgedetr.distill.training.distillation_model import Trainee
    from edgedetr.distill.training.training_inputs import TrainingInputs
    from edgedetr.distill.types import Targets

IMAGES = 64
"""How many training images adapters are fitted on."""


@torch.no_grad()
def fit_adapters(trainee: Trainee, batches: Iterable[tuple[Tensor, list[Targets]]]) -> None:
    """Fit the adapters of every method of a run on its first batches.

    The student's features are those of training; what its batch norms have seen stays as it was.

    Args:
        trainee: What will be trained; nothing happens where no method has a loss.
        batches: Network inputs (B, 3, H, W) and the truth of each image, on the trainee's device.
    """
    if not trainee.distillation.teaches:
        return
    memory = trainee.teacher_memory
    before = {name: buffer.clone() for name, buffer in trainee.network.named_buffers()}
    training = trainee.training
    trainee.train()
    seen = [
        Batch(images, targets, trainee.encode(images), memory(images, targets) if memory else None)
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
        truths = [truth.to(device) for _, truth in items]
        yield augmented_on_device(pixels.to(device), truths), truths
