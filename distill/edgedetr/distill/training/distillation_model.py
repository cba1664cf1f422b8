"""The module that trains: the student and what its distillation method adds to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from typing_extensions import override

from edgedetr.distill.networks.backbones import backbone_of
from edgedetr.distill.networks.fake_quantization import freeze_batch_norms, simulated
from edgedetr.distill.types import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.config import OptimizerConfig
    from edgedetr.distill.model import Model
    from edgedetr.distill.training.objective import Distillation
    from edgedetr.distill.training.teacher_cache import TeacherMemory
    from edgedetr.distill.types import Features, Losses, Targets


class Trainee(nn.Module):
    """One forward pass gives every loss of a step, so that gradients are shared as one module.

    The teacher lies inside the methods and the memory as a plain value: it is no part of this
    module's parameters.

    Args:
        student: The model to train; with a quantization it computes as in INT8, and what its batch
            norms have seen stays as it is.
        distillation: What adds the distillation losses.
        teacher_memory: Gives the teacher's memory of a batch, for methods that need one.
    """

    def __init__(
        self,
        student: Model,
        distillation: Distillation,
        teacher_memory: TeacherMemory | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.network = student.network
        self.distillation = distillation
        self.teacher_memory = teacher_memory

    @override
    def forward(
        self, images: Tensor, targets: Sequence[Targets]
    ) -> tuple[Losses, dict[str, Tensor]]:
        """Return the weighted terms of the detection loss and of the distillation.

        Args:
            images: Network input (B, 3, H, W).
            targets: The truth of each image.
        """
        taught = self.teacher_memory(images) if self.teacher_memory else None
        images = images.contiguous(memory_format=torch.channels_last)
        with simulated(self.network, self.student.quantization):
            detection, memory = self.student.training_pass(images, targets)
            return detection, self.distillation(Batch(images, targets, memory, taught), detection)

    def encode(self, images: Tensor) -> Features:
        """Return the student's memory or pyramid of (B, 3, H, W), as training computes it."""
        images = images.contiguous(memory_format=torch.channels_last)
        with simulated(self.network, self.student.quantization):
            return self.student.encode(images)

    @override
    def train(self, mode: bool = True) -> Trainee:
        """Set the mode of training; the batch norms of a quantized student stay in evaluation."""
        super().train(mode)
        if self.student.quantization is not None:
            freeze_batch_norms(self.network)
        return self


def parameter_groups(trainee: Trainee, config: OptimizerConfig) -> list[dict[str, object]]:
    """Split the parameters by learning rate and weight decay.

    Norms and biases (tensors of one dimension) do not decay. Each group has a ``peak`` learning
    rate beside its ``lr``.
    """
    backbone = {id(p) for p in backbone_of(trainee.network).parameters()}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for parameter in trainee.parameters():
        if parameter.requires_grad:
            factor = config.backbone_factor if id(parameter) in backbone else 1.0
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((config.learning_rate * factor, decay), []).append(parameter)
    return [
        {"params": params, "lr": peak, "peak": peak, "weight_decay": decay}
        for (peak, decay), params in groups.items()
    ]
