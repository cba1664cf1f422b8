"""DRKD, dual relation knowledge distillation (Ni et al., IJCAI 2023).

The student learns three terms on the levels that both have in common, adapted to the teacher's
width:

* ``pixel``: relations between cells. A graph unit a level (GloRe, Chen et al., CVPR 2019) projects
  the cells onto a few nodes, lets these reason and projects back (`PixelRelations`); the term is
  the mean square of the difference of the cells (`plain_share` of it) plus that of what relations
  make of them.
* ``relation``: relations between objects. Ground-truth boxes are pooled to 3x3 from the two finest
  levels; each object x_i gathers ``sum_j softmax_j(w_ij * theta(x_i).phi(x_j) / sqrt(h)) g(x_j)``
  from the objects of its image (`ObjectRelations`), and the term is the mean square of the
  difference of that, as in the authors' code (the paper's equation compares the softmax itself).
  Images with fewer than two objects have no relations; of more than 100 a random 100 are taken.
* ``instance``: the mean square of the difference of the objects' features x.

Each is a mean over its levels.

``modules`` trains the relation modules and reaches no student: from the relations among the
teacher's cells and objects, the cells and objects themselves are to be predicted.

Where this departs from the authors' code, and why:

* The filter ``w_ij`` is a small network over both objects' features and their geometry, in (0, 1).
  The code makes a new random layer at each call, so that it is never trained.
* The code trains modules of both sides to agree, and nothing keeps them from agreeing on nothing:
  between unrelated fixed features they reach a loss near 0, and still do with one set of weights
  and no gradient on the teacher's side. Here both sides use the weights that ``modules`` trains on
  the teacher alone, and the other terms train the student and its adapters alone.
* An object gathers from the others and not from itself, else copying itself would do.
* The outputs of relations are standardised, over cells and over objects, and compared beside the
  features rather than added to them.
* Node features are divided by the number of cells: input sizes may differ. Dot products are divided
  by sqrt(h), h the level's width (the code's h is half the 9 D features of an object).
* Means of squares instead of the norm of the whole batch tensor, which grows with batch and input.
  The default weights therefore differ from the code's (1e-3 or 4e-3, 4e-3 or 5e-3, 2.4e-3 or 6e-3).

``form="paper"`` is the paper's form instead: the unit of either side adds its relations to the
cells, and ``pixel`` compares the sums; ``relation`` compares the softmax itself, as a sum over the
pairs of an image; the modules of both sides train to agree, by these terms, and ``modules`` is 0.
What is left of ours in it: the filter keeps its weights, the student's levels are adapted before
their unit and not after it, and squares are means over cells.

Nodes are 1/4 of the width on the two finest levels and the width on the others: the authors' 64 and
256 at width 256. Padded cells and cells in ignored areas count in no term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from edgedetr.distill.losses.feature_levels import LevelPair, PairedLevels
from edgedetr.distill.losses.foreground_mask import standardised
from edgedetr.distill.losses.object_relations import ObjectRelations, Objects, objects
from edgedetr.distill.losses.paper_relations import (
    PaperObjectRelations,
    PaperPixelRelations,
    relation_difference,
)
from edgedetr.distill.losses.pixel_relations import PixelRelations
from edgedetr.distill.methods import DistillationMethod
from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.precision import in_float32

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgedetr.distill.detectors import DetectorModule
    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch

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
        plain_share: Factor, within the pixel term, of the cells' own difference; with 0, and an
            ``instance_weight`` of 0, relations alone teach. Of the redesign alone.
        form: ``redesign``, or the ``paper``'s.
    """

    pixel_weight: float = 0.1
    relation_weight: float = 0.1
    instance_weight: float = 0.1
    plain_share: float = 1.0
    form: Literal["redesign", "paper"] = "redesign"

    def __post_init__(self) -> None:
        if self.form == "paper" and self.plain_share != 1:
            raise ValueError(
                f"plain_share = {self.plain_share} needs form = 'redesign'; the paper's form has "
                "no such term"
            )


class Drkd(DistillationMethod):
    """The terms, with adapters and relation modules for each level."""

    terms = ("pixel", "relation", "instance", "modules")

    def __init__(self, settings: Settings, student: Model, teacher: Model) -> None:
        super().__init__()
        self.settings = settings
        self.levels = PairedLevels(student, teacher)
        nodes = _nodes(teacher.width, len(self.levels))
        self.pixel_relations = nn.ModuleList(PixelRelations(teacher.width, n) for n in nodes)
        self.object_relations = nn.ModuleList(
            ObjectRelations(teacher.width) for _ in nodes[:OBJECT_LEVELS]
        )

    @override
    def fit(self, batches: Sequence[Batch]) -> None:
        """Set the adapters of the levels, see `PairedLevels.fit`."""
        self.levels.fit(batches)

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of one step, each a mean over levels."""
        settings = self.settings
        levels: tuple[LevelPair, ...] = self.levels(batch)
        found = objects(batch.targets)
        by_pixel = zip(levels, self.pixel_relations, strict=True)
        pixel, pixel_module = _means(
            pixel_terms(pair, relations, settings.plain_share) for pair, relations in by_pixel
        )
        by_object = zip(levels, self.object_relations, strict=False)
        relation, instance, object_module = _means(
            object_terms(pair, found, relations) for pair, relations in by_object
        )
        return {
            "pixel": settings.pixel_weight * pixel,
            "relation": settings.relation_weight * relation,
            "instance": settings.instance_weight * instance,
            "modules": settings.pixel_weight * pixel_module
            + settings.relation_weight * object_module,
        }


class PaperDrkd(DistillationMethod):
    """The paper's form: relation modules of both sides, which train to agree."""

    terms = Drkd.terms

    def __init__(self, settings: Settings, student: Model, teacher: Model) -> None:
        super().__init__()
        self.settings = settings
        self.levels = PairedLevels(student, teacher)
        nodes = _nodes(teacher.width, len(self.levels))
        self.pixel_relations = nn.ModuleList(
            nn.ModuleList(PaperPixelRelations(teacher.width, n) for _ in range(2)) for n in nodes
        )
        self.object_relations = nn.ModuleList(
            nn.ModuleList(PaperObjectRelations(teacher.width) for _ in range(2))
            for _ in nodes[:OBJECT_LEVELS]
        )

    @override
    def fit(self, batches: Sequence[Batch]) -> None:
        """Set the adapters of the levels, see `PairedLevels.fit`."""
        self.levels.fit(batches)

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of one step, each a mean over levels."""
        settings = self.settings
        levels: tuple[LevelPair, ...] = self.levels(batch)
        found = objects(batch.targets)
        by_pixel = zip(levels, self.pixel_relations, strict=True)
        (pixel,) = _means((paper_pixel_term(pair, *sides),) for pair, sides in by_pixel)  # type: ignore[misc]
        by_object = zip(levels, self.object_relations, strict=False)
        relation, instance = _means(
            paper_object_terms(pair, found, *sides)  # type: ignore[misc]
            for pair, sides in by_object
        )
        return {
            "pixel": settings.pixel_weight * pixel,
            "relation": settings.relation_weight * relation,
            "instance": settings.instance_weight * instance,
            "modules": pixel.new_zeros(()),
        }


def supports(student: DetectorModule, teacher: DetectorModule) -> bool:
    """Take every pair of families: all have levels."""
    del student, teacher
    return True


def build(settings: Settings, student: Model, teacher: Model) -> DistillationMethod:
    """Make the method for a pair of models."""
    form = PaperDrkd if settings.form == "paper" else Drkd
    return form(settings, student, teacher)


@in_float32
def pixel_terms(
    pair: LevelPair, relations: nn.Module, plain_share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return one level's ``pixel`` and its share in ``modules``, unweighted."""
    counted = pair.counted
    target = relations(pair.teacher, counted)
    output = _without_training(relations, pair.student, counted)
    related, plain = output - target.detach(), pair.student - pair.teacher
    by_cell = related.square() + plain_share * plain.square()
    module = (target - standardised(pair.teacher, counted[:, None])).square()
    return _mean(by_cell.mean(1), counted), _mean(module.mean(1), counted)


@in_float32
def object_terms(
    pair: LevelPair, found: Objects, relations: nn.Module
) -> tuple[Tensor, Tensor, Tensor]:
    """Return one level's ``relation``, ``instance`` and share in ``modules``, unweighted."""
    mine, theirs = (found.features(level) for level in (pair.student, pair.teacher))
    target = relations(theirs, found)
    output = _without_training(relations, mine, found)
    module = (target - found.standardised(theirs)).square()
    return (
        _mean((output - target.detach()).square().mean(-1), found.related),
        _mean((mine - theirs).square().mean(-1), found.valid),
        _mean(module.mean(-1), found.related),
    )


@in_float32
def paper_pixel_term(pair: LevelPair, mine: nn.Module, theirs: nn.Module) -> Tensor:
    """Return one level's ``pixel`` of the paper's form, unweighted."""
    difference = mine(pair.student, pair.counted) - theirs(pair.teacher, pair.counted)
    return _mean(difference.square().mean(1), pair.counted)


@in_float32
def paper_object_terms(
    pair: LevelPair, found: Objects, mine: nn.Module, theirs: nn.Module
) -> tuple[Tensor, Tensor]:
    """Return one level's ``relation`` and ``instance`` of the paper's form, unweighted."""
    output, target = (found.features(level) for level in (pair.student, pair.teacher))
    relation = relation_difference(mine(output, found), theirs(target, found), found)
    return relation, _mean((output - target).square().mean(-1), found.valid)


def _nodes(width: int, levels: int) -> list[int]:
    """Return how many nodes the graph unit of each level has."""
    return [max(1, width // 4) if index < OBJECT_LEVELS else width for index in range(levels)]


def _without_training(module: nn.Module, *inputs: object) -> Tensor:
    """Call a module whose own parameters get no gradient."""
    fixed = {name: p.detach() for name, p in module.named_parameters()}
    outputs: Tensor = functional_call(module, fixed, inputs)
    return outputs


def _means(levels: Iterable[tuple[Tensor, ...]]) -> list[Tensor]:
    """Return the mean over levels of each of their terms."""
    return [torch.stack(term).mean() for term in zip(*levels, strict=True)]


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the counted values of the whole batch, 0 where there are none."""
    return (values * counted).sum() / whole_batch.total(counted.sum()).clamp(min=1)
