"""DRKD, dual relation knowledge distillation (Ni et al., IJCAI 2023).

Three terms on the levels that student s and teacher t have in common, s adapted to t's width:

* ``pixel``: relations between cells. A graph unit phi a level (GloRe, Chen et al., CVPR 2019)
  projects the cells onto a few nodes, lets these reason and projects back;
  the term is the mean square of ``phi(s) - phi(t)``, mean over levels (paper, equation 3).
* ``relation``: relations between objects. Ground-truth boxes are pooled to 3x3 from the two finest
  levels; each object x_i looks at the objects of its image,
  ``y_i = sum_j softmax_j(w_ij * theta(x_i).phi(x_j) / sqrt(h)) g(x_j)``, and the term is the mean
  square of ``psi(s) - psi(t)`` with ``psi_i = x_i + normalised(W y_i)`` (the authors' code, which
  compares features that relations have enriched; the paper's equation compares the softmax).
  Images with fewer than two objects have no relations; of more than 100 a random 100 are taken.
* ``instance``: the mean square of ``x(s) - x(t)``.

Where this departs from the authors' code, and why:

* The filter ``w_ij`` is a small network over both objects' features and their geometry, in (0, 1).
  The code makes a new random layer at each call, so that it never learns.
* phi, psi and the filter are the student's; the teacher's side uses the same weights without
  gradient. The code trains modules of the teacher's side, which may meet the student half way.
* What relations add is normalised without learnt scale (per channel over cells; over the features
  of an object), so that training cannot switch it off; batch statistics stay out of it.
* Node features are divided by the number of cells: input sizes may differ. Dot products are divided
  by sqrt(h), h the level's width (the code's h is half the 9 D features of an object).
* Means of squares instead of the norm of the whole batch tensor, which grows with batch and input.
  The default weights therefore differ from the code's (1e-3 or 4e-3, 4e-3 or 5e-3, 2.4e-3 or 6e-3).

Nodes are 1/4 of the width on the two finest levels and the width on the others: the authors' 64 and
256 at width 256. Padded cells and cells in ignored areas count in no term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from typing_extensions import override

from edgedetr.distill.methods import DistillationMethod
from edgedetr.distill.object_relations import ObjectRelations, Objects, objects
from edgedetr.distill.paired_levels import LevelPair, PairedLevels
from edgedetr.distill.pixel_relations import PixelRelations

if TYPE_CHECKING:
    from edgedetr.distill.detectors import DetectorModule
    from edgedetr.distill.methods import Batch
    from edgedetr.distill.model import Model

NEEDS_TEACHER = True

OBJECT_LEVELS = 2
"""How many of the finest levels objects are pooled from."""


@dataclass(frozen=True)
class Settings:
    """Weights of DRKD.

    Attributes:
        pixel_weight: Factor of the relations between cells.
        relation_weight: Factor of the relations between objects.
        instance_weight: Factor of the objects' features.
    """

    pixel_weight: float = 0.1
    relation_weight: float = 0.1
    instance_weight: float = 0.1


class Drkd(DistillationMethod):
    """The three terms, with adapters and relation modules for each level."""

    terms = ("pixel", "relation", "instance")

    def __init__(self, settings: Settings, student: Model, teacher: Model) -> None:
        super().__init__()
        self.settings = settings
        self.levels = PairedLevels(student, teacher)
        width, fine = teacher.width, min(OBJECT_LEVELS, len(self.levels))
        self.pixel_relations = nn.ModuleList(
            PixelRelations(width, max(1, width // 4) if index < OBJECT_LEVELS else width)
            for index in range(len(self.levels))
        )
        self.object_relations = nn.ModuleList(ObjectRelations(width) for _ in range(fine))

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of one step, each a mean over levels."""
        levels: tuple[LevelPair, ...] = self.levels(batch)
        pixel = [
            pixel_term(pair, relations)
            for pair, relations in zip(levels, self.pixel_relations, strict=True)
        ]
        found = objects(batch.targets)
        finest = list(zip(levels, self.object_relations, strict=False))
        by_object = [object_terms(pair, found, relations) for pair, relations in finest]
        relation, instance = zip(*by_object, strict=True)
        return {
            "pixel": self.settings.pixel_weight * torch.stack(pixel).mean(),
            "relation": self.settings.relation_weight * torch.stack(relation).mean(),
            "instance": self.settings.instance_weight * torch.stack(instance).mean(),
        }


def supports(student: DetectorModule, teacher: DetectorModule) -> bool:
    """Take every pair of families: all have levels."""
    del student, teacher
    return True


def build(settings: Settings, student: Model, teacher: Model) -> DistillationMethod:
    """Make the method for a pair of models."""
    return Drkd(settings, student, teacher)


def pixel_term(pair: LevelPair, relations: nn.Module) -> Tensor:
    """Return the mean square between both sides' related cells; the teacher's is the target."""
    counted = pair.counted
    learnt = relations(pair.student, counted)
    with torch.no_grad():
        taught = relations(pair.teacher, counted)
    by_cell = (learnt - taught).square().mean(1)
    return _mean(by_cell, counted)


def object_terms(pair: LevelPair, found: Objects, relations: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the mean squares between both sides' related objects and their features."""
    mine, theirs = (found.features(level) for level in (pair.student, pair.teacher))
    learnt = relations(mine, found)
    with torch.no_grad():
        taught = relations(theirs, found)
    relation = _mean((learnt - taught).square().mean(-1), found.related)
    return relation, _mean((mine - theirs).square().mean(-1), found.valid)


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the counted values, 0 where there are none."""
    return (values * counted).sum() / counted.sum().clamp(min=1)
