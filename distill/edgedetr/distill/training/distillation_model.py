"""The module that trains: the student and what its distillation method adds to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from edgedetr.distill.networks.fake_quantization import freeze_batch_norms, simulated
from edgedetr.distill.networks.whole_batch import part_of
from edgedetr.distill.training.batch_parts import part_with
from edgedetr.distill.training.objective import distillation_of, needs_teacher
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.training.unlabelled import for_distillation, passed
from edgedetr.distill.types import Batch
from edgedetr.runtime.preprocess import normalisation_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.config import MethodConfig
    from edgedetr.distill.model import Model
    from edgedetr.distill.training.objective import Distillation
    from edgedetr.distill.types import Features, Losses, Targets
    from edgedetr.distill.weights.foundation import Foundation


def trainee_of(
    configs: Sequence[MethodConfig],
    student: Model,
    teacher: Model | None,
    foundation: Foundation | None = None,
    least_score: float = 0.5,
) -> Trainee:
    """Join student and methods, with the teacher's memory if a method needs it.

    Args:
        configs: The methods.
        student: The model to train.
        teacher: The detector that teaches, if there is one.
        foundation: The backbone whose features are taught, if there is one.
        least_score: From which score on the teacher's detections stand for labels where there are
            none.

    Raises:
        UsageError: If a method does not support this pair of families.
    """
    distillation = distillation_of(configs, student, teacher, foundation)
    if teacher is None or not needs_teacher(configs):
        return Trainee(student, distillation)
    return Trainee(student, distillation, TeacherMemory(teacher, student.spec), least_score)


class Trainee(nn.Module):
    """One forward pass gives every loss of a step, so that gradients are shared as one module.

    The teacher lies inside the methods and the memory as a plain value: it is no part of this
    module's parameters.

    Args:
        student: The model to train; with a quantization it computes as in INT8, and what its batch
            norms have seen stays as it is.
        distillation: What adds the distillation losses.
        teacher_memory: Gives the teacher's memory of a batch, for methods that need one.
        least_score: From which score on its detections stand for labels where there are none.
    """

    def __init__(
        self,
        student: Model,
        distillation: Distillation,
        teacher_memory: TeacherMemory | None = None,
        least_score: float = 0.5,
    ) -> None:
        super().__init__()
        self.student = student
        self.network = student.network
        self.distillation = distillation
        self.teacher_memory = teacher_memory
        self.least_score = least_score

    @override
    def forward(
        self, images: Tensor, targets: Sequence[Targets]
    ) -> tuple[Losses, dict[str, Tensor]]:
        """Return the weighted terms of the detection loss and of the distillation.

        Images without labels have no detection loss.

        Args:
            images: Network input (B, 3, H, W), or its uint8 pixels before normalisation.
            targets: The truth of each image.
        """
        images = self._normalised(images)
        theirs, found = None, list(targets)
        if self.teacher_memory:
            theirs = self.teacher_memory(images, targets)
            found = for_distillation(images, targets, self.teacher_memory, self.least_score)
        images = images.contiguous(memory_format=torch.channels_last)
        with simulated(self.network, self.student.quantization):
            detection, memory = passed(self.student, images, targets)
            with part_of(part_with(found)):
                return detection, self.distillation(Batch(images, found, memory, theirs), detection)

    def _normalised(self, images: Tensor) -> Tensor:
        """Turn uint8 pixels into the network's float32 input, on their device, as loading does."""
        if images.dtype != torch.uint8:
            return images
        tables = torch.from_numpy(np.stack(normalisation_tables(self.student.spec)))
        tables = tables.to(images.device, non_blocking=True)
        planes = zip(tables, images.unbind(1), strict=True)
        return torch.stack([table[plane.int()] for table, plane in planes], 1)

    def encode(self, images: Tensor) -> Features:
        """Return the student's memory or pyramid of (B, 3, H, W), as training computes it."""
        images = self._normalised(images)
        images = images.contiguous(memory_format=torch.channels_last)
        with simulated(self.network, self.student.quantization):
            return self.student.encode(images)

    @override
    def train(self, mode: bool = True) -> Trainee:
        """Set the mode of training, but for batch norms that keep what they have seen.

        These are all of a quantized student, and those of frozen stages.
        """
        super().train(mode)
        if self.student.quantization is not None:
            freeze_batch_norms(self.network)
        for norm in self.network.modules():
            if isinstance(norm, nn.BatchNorm2d) and not norm.weight.requires_grad:
                norm.eval()
        return self
