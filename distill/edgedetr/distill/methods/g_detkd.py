"""G-DetKD, distillation from a two-stage teacher to any detector (Yao et al., ICCV 2021).

The student's own regions are sampled (IoU with an object above 0.5 is positive, at most a quarter
of the samples), the teacher's second stage classifies them, and the student is pulled to

* ``features``: the teacher's region features, from all its levels (`SemanticImitation`);
* ``contrast``: how regions are related, by their embeddings (`RegionContrast`), positives alone;

and where the student has a second stage itself, which then classifies the same regions,

* ``class``: ``KL(softmax(z_teacher) || softmax(z_student))``, mean over regions;
* ``localization``: class-aware, ``|sum_c p_c (d_teacher,c - d_student,c)|`` with p the teacher's
  class probabilities and d the box deltas, summed over the four, mean over regions.

Such a student takes over the teacher's second stage at the start, where shapes agree. A detection
transformer's levels are its memory's, its regions the last layer's boxes, its embeddings what
leaves the decoder.

There is no official code. Weights, the temperature 0.07 and linear layers are those of public
re-implementations; the softmax is over levels and the positive stays in the denominator, as in the
paper. 16 regions of 96x320 pixels are as many a pixel as the 512 of 800x1333 that are usual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert
from typing_extensions import override

from edgedetr.distill.class_map import without_unknown
from edgedetr.distill.detectors import classifies_regions
from edgedetr.distill.losses.least_squares import LeastSquares
from edgedetr.distill.losses.region_contrast import RegionContrast
from edgedetr.distill.losses.region_sampling import region_samples
from edgedetr.distill.losses.semantic_imitation import SemanticImitation
from edgedetr.distill.methods import DistillationMethod
from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.precision import in_float32
from edgedetr.distill.weights.inheritance import inherit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.detectors import DetectorModule
    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch, Features, Pyramid, RegionOutputs, Regions

NEEDS_TEACHER = True


@dataclass(frozen=True)
class Settings:
    """Weights and sizes of G-DetKD.

    Attributes:
        features_weight: Factor of the feature imitation.
        contrast_weight: Factor of the contrastive loss.
        class_weight: Factor of the class loss of a two-stage student.
        localization_weight: Factor of its localization loss.
        temperature: Divides the cosines of the contrastive loss.
        queue: Earlier embeddings that serve as negatives.
        regions: Most regions of an image.
        head_transfer: Whether a two-stage student starts with the teacher's second stage, where
            shapes agree.
    """

    features_weight: float = 1.0
    contrast_weight: float = 0.5
    class_weight: float = 1.0
    localization_weight: float = 1.0
    temperature: float = 0.07
    queue: int = 4096
    regions: int = 16
    head_transfer: bool = True

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.queue < 1 or self.regions < 4:
            raise ValueError(
                "queue must be at least 1 and regions at least 4 (a quarter is positive), got "
                f"{self.queue} and {self.regions}"
            )


class GDetKd(DistillationMethod):
    """The terms, with what they need beside the models."""

    def __init__(self, settings: Settings, student: Model, teacher: Model) -> None:
        super().__init__()
        self.settings = settings
        self.student = student
        self.teacher = teacher
        self.two_stage = classifies_regions(student.module)
        self.terms = ("features", "contrast")
        if self.two_stage:
            self.terms += ("class", "localization")
        self.imitation = SemanticImitation(student.width, teacher.width)
        self.contrast = RegionContrast(
            student.embedding_width,
            teacher.embedding_width,
            1 if self.two_stage else student.anchor_kinds,
            settings.queue,
        )

    @override
    def forward(self, batch: Batch[Features, Pyramid]) -> dict[str, Tensor]:
        """Return the weighted terms of one step; the teacher gets no gradient."""
        settings = self.settings
        found = self._regions(batch)
        samples = region_samples(found.boxes, batch.targets, settings.regions)
        with torch.no_grad():
            target = self.teacher.classify_regions(batch.teacher_memory, samples.boxes)
        terms, student = {}, (found.embeddings[samples.rows], found.kinds[samples.rows])
        if self.two_stage:
            outputs = self.student.classify_regions(cast("Pyramid", batch.memory), samples.boxes)
            student = (outputs.embeddings, student[1])
            classes, localization = prediction_terms(outputs, target)
            terms = {
                "class": settings.class_weight * classes,
                "localization": settings.localization_weight * localization,
            }
        features = self.imitation(batch.memory.levels, samples.boxes, target.features)
        contrast = self.contrast(
            student, target.embeddings, samples.positive, samples.alike(), settings.temperature
        )
        return {
            "features": settings.features_weight * features,
            "contrast": settings.contrast_weight * contrast,
            **terms,
        }

    @override
    @torch.no_grad()
    def fit(self, batches: Sequence[Batch[Features, Pyramid]]) -> None:
        """Set the imitation's adapter, on the regions of the objects."""
        squares = LeastSquares()
        for batch in batches:
            boxes = [box_convert(t.boxes, "cxcywh", "xyxy") for t in batch.targets]
            target = self.teacher.classify_regions(batch.teacher_memory, boxes).features
            mine = self.imitation.of_all_levels(batch.memory.levels, boxes, target.shape[-1])
            squares.add(mine, target, target.new_ones(target[:, 0].shape))
        squares.solve(self.imitation.adapter)

    def _regions(self, batch: Batch[Features, Pyramid]) -> Regions:
        """Return the student's regions; a second stage classifies the sampled ones later."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.two_stage):
            return self.student.regions(batch.memory)


def supports(student: DetectorModule, teacher: DetectorModule) -> bool:
    """Take every student of a two-stage teacher."""
    del student
    return classifies_regions(teacher)


def build(settings: Settings, student: Model, teacher: Model) -> DistillationMethod:
    """Make the method for a pair of models; a two-stage student takes over the second stage."""
    if settings.head_transfer and classifies_regions(student.module):
        transfer_head(student, teacher)
    return GDetKd(settings, student, teacher)


def transfer_head(student: Model, teacher: Model) -> list[str]:
    """Copy the teacher's second stage where all shapes of a part agree; return what was copied.

    The part that knows the classes is copied only where both have the same, in the same order.
    """
    parts = ["roi_heads.box_head."]
    if student.spec.class_names == teacher.spec.class_names and teacher.class_map is None:
        parts.append("roi_heads.box_predictor.")
    fitting = [part for part in parts if _shapes(student, part) == _shapes(teacher, part)]
    return [name for part in fitting for name in inherit(student, teacher, part)]


@in_float32
def prediction_terms(student: RegionOutputs, teacher: RegionOutputs) -> tuple[Tensor, Tensor]:
    """Return the unweighted ``class`` and ``localization`` of outputs for the same regions.

    Classes that the teacher does not know count as background in ``class``.
    """
    logits, deltas = teacher.logits.detach(), teacher.deltas.detach()
    count = max(1, whole_batch.count(len(logits)))
    mine, theirs = (
        without_unknown(x, teacher.known).log_softmax(-1) for x in (student.logits, logits)
    )
    classes = F.kl_div(mine, theirs, reduction="sum", log_target=True)
    posterior = logits.softmax(-1)[:, 1:, None]
    expected = (posterior * (deltas - student.deltas)).sum(1)
    return classes / count, expected.abs().sum() / count


def _shapes(model: Model, part: str) -> dict[str, tuple[int, ...]]:
    tensors = model.network.state_dict().items()
    return {name: tuple(t.shape) for name, t in tensors if name.startswith(part)}
