"""Distillation points: queries that student and teacher decode alike.

They come from the ground truth (CLoCKDistill), from the teacher (KD-DETR's specific points) or from
chance (its general points). Slot i of the student's outputs pairs with slot i of the teacher's.

Content follows one rule. Where both models are of one family and width, both get the teacher's: its
own embeddings for its own queries, its `label_content` for all others. Otherwise each gets its own
`label_content`, the teacher for its own queries too: a teacher that recognizes its own queries
keeps one of several that lie on an object, by what lies in their content, which a student that
only sees the boxes could not learn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from edgedetr.distill.networks.criterion import IGNORED_SHARE, share_inside
from edgedetr.distill.types import DetrOutputs, Queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch, Memory, Targets

MIN_SIZE = 1e-3
"""Smallest width and height of a query's box, as a fraction of the input."""

RANDOM_SIZES = (0.02, 0.8)
"""Width and height of a random query's box, as fractions of the input."""

NO_CLASS = -1
"""Label of a query of no class."""


@dataclass(frozen=True, eq=False)
class SharedQueries:
    """One set of queries whose content depends on the model.

    Attributes:
        labels: Class indices (B, Q); `NO_CLASS` where a query stands for no object.
        boxes: cxcywh in [0, 1], (B, Q, 4).
        valid: False in slots that only fill up the batch, (B, Q).
        groups: Number of equal groups of slots that do not see one another.
        content: The teacher's own embeddings (B, Q, D) of them, if it has any.
    """

    labels: Tensor
    boxes: Tensor
    valid: Tensor
    groups: int = 1
    content: Tensor | None = None

    def queries(self, model: Model) -> Queries:
        """Give the queries the content that a model makes from class and box."""
        content = model.label_content(self.labels, self.boxes)
        return Queries(content, self.boxes, self.valid, self.groups)


@dataclass(frozen=True)
class Noise:
    """Noise on target queries.

    Attributes:
        num_classes: How many classes a noisy label is drawn from.
        label: Probability of another class in [0, 1].
        box: Share of half a box's size in [0, 1].
    """

    num_classes: int = 1
    label: float = 0.0
    box: float = 0.0


@dataclass(frozen=True, eq=False)
class SharedOutputs:
    """The outputs of both models for one set of queries.

    Attributes:
        student: With gradient.
        teacher: Without.
        counts: False in slots that are not to be compared, (B, Q): those that fill up the batch,
            and queries of no class that the teacher answers inside an ignored area.
    """

    student: DetrOutputs
    teacher: DetrOutputs
    counts: Tensor


def target_queries(
    targets: Sequence[Targets], groups: int = 1, noise: Noise = Noise()
) -> SharedQueries:
    """Build ``groups`` copies of every image's objects, each copy with noise of its own.

    Slot ``g * G + i`` holds copy g of object i, where G is the most objects of an image (at least
    one slot, so that a batch without objects still runs both decoders). Noise follows DN-DETR:
    a label becomes a random class with probability ``noise.label``; a centre moves by up to
    ``noise.box`` half sizes and a size changes by up to that share. Nothing here has a gradient.

    Args:
        targets: Truth of each image.
        groups: Number of copies.
        noise: Noise on every copy.
    """
    labels = pad_sequence([t.labels for t in targets], batch_first=True)
    boxes = pad_sequence([t.boxes for t in targets], batch_first=True)
    counts = torch.tensor([len(t.labels) for t in targets], device=labels.device)
    if labels.shape[1] == 0:
        labels = labels.new_zeros((len(targets), 1))
        boxes = boxes.new_full((len(targets), 1, 4), 0.5)
    valid = torch.arange(labels.shape[1], device=labels.device) < counts[:, None]
    boxes = torch.where(valid.unsqueeze(-1), boxes, boxes.new_full((), 0.5))
    labels, valid = labels.repeat(1, groups), valid.repeat(1, groups)
    boxes = boxes.repeat(1, groups, 1)
    if noise.label > 0:
        other = torch.randint_like(labels, 0, noise.num_classes)
        noisy = torch.rand(labels.shape, device=labels.device) < noise.label
        labels = torch.where(noisy, other, labels)
    if noise.box > 0:
        size = boxes[..., 2:]
        shift = (torch.rand_like(size) * 2 - 1) * size / 2 * noise.box
        growth = 1 + (torch.rand_like(size) * 2 - 1) * noise.box
        boxes = torch.cat([boxes[..., :2] + shift, size * growth], dim=-1)
    boxes = torch.cat([boxes[..., :2].clamp(0, 1), boxes[..., 2:].clamp(MIN_SIZE, 1)], dim=-1)
    return SharedQueries(labels, boxes, valid, groups)


def teacher_queries(memory: Memory, count: int | None = None) -> SharedQueries:
    """Take the queries that the teacher chose itself on these images.

    Args:
        memory: The teacher's.
        count: How many of an image's, drawn at random, new ones at each call; None takes all.
    """
    own = memory.own
    content, boxes, valid = own.content.detach(), own.boxes.detach(), own.valid
    if count is not None and count < valid.shape[1]:
        order = torch.rand(valid.shape, device=valid.device) + ~valid
        chosen = order.argsort(1)[:, :count]
        valid = valid.gather(1, chosen)
        content, boxes = (
            x.gather(1, chosen.unsqueeze(-1).expand(-1, -1, x.shape[-1])) for x in (content, boxes)
        )
    labels = torch.full(valid.shape, NO_CLASS, device=valid.device)
    return SharedQueries(labels, boxes, valid, content=content)


def random_queries(
    memory: Memory, count: int, kind: Literal["uniform", "gaussian"] = "uniform"
) -> SharedQueries:
    """Draw queries of no class, new ones at each call.

    Args:
        memory: Of the images that they are for.
        count: Queries an image.
        kind: ``uniform`` draws centres evenly over the image and sizes evenly on a logarithmic
            scale over `RANDOM_SIZES`; ``gaussian`` is KD-DETR's code, the sigmoid of a standard
            normal in all four coordinates: most boxes are large and lie in the middle.
    """
    tokens = memory.tokens
    shape = (len(tokens), count)
    if kind == "uniform":
        low, high = map(math.log, RANDOM_SIZES)
        centres, sizes = (torch.rand((*shape, 2), device=tokens.device) for _ in range(2))
        boxes = torch.cat([centres, (low + (high - low) * sizes).exp()], -1)
    else:
        boxes = torch.randn((*shape, 4), device=tokens.device).sigmoid()
    labels = torch.full(shape, NO_CLASS, device=tokens.device)
    return SharedQueries(labels, boxes, torch.ones_like(labels, dtype=torch.bool))


def shared_outputs(
    sets: Sequence[SharedQueries], student: Model, teacher: Model, batch: Batch[Memory, Memory]
) -> list[SharedOutputs]:
    """Decode the same sets of queries with student and teacher; no set sees another.

    Args:
        sets: The queries.
        student: Decodes with gradient to its weights and memory.
        teacher: Decodes without gradient.
        batch: Both memories, and the truth with its ignored areas.
    """
    alike = student.family == teacher.family and student.width == teacher.width
    with torch.no_grad():
        asked = [s.queries(teacher) for s in sets]
        if alike:
            asked = [
                q if s.content is None else replace(q, content=s.content)
                for q, s in zip(asked, sets, strict=True)
            ]
        taught = _answers(asked, teacher, batch.teacher_memory)
    asked = asked if alike else [s.queries(student) for s in sets]
    learnt = _answers(asked, student, batch.memory)
    return [
        SharedOutputs(mine, theirs, _counts(s, theirs, batch.targets))
        for s, mine, theirs in zip(sets, learnt, taught, strict=True)
    ]


def outside_ignored(boxes: Tensor, targets: Sequence[Targets]) -> Tensor:
    """Tell which boxes (B, Q, 4) do not lie in an ignored area of their image, (B, Q)."""
    outside = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    for row, target in enumerate(targets):
        if len(target.ignored):
            outside[row] = share_inside(boxes[row], target.ignored) < IGNORED_SHARE
    return outside


def _counts(asked: SharedQueries, teacher: DetrOutputs, targets: Sequence[Targets]) -> Tensor:
    known = (asked.labels != NO_CLASS) | outside_ignored(teacher.boxes[-1], targets)
    return asked.valid & known


def _answers(asked: Sequence[Queries], model: Model, memory: Memory) -> list[DetrOutputs]:
    """Ask sets whose groups have one size together, each set as groups of its own."""
    alike: dict[int, list[int]] = defaultdict(list)
    for index, queries in enumerate(asked):
        alike[queries.boxes.shape[1] // queries.groups].append(index)
    answers: dict[int, DetrOutputs] = {}
    for chosen in alike.values():
        sets = [asked[index] for index in chosen]
        outputs = model.decode(memory, _joined(sets))
        answers |= zip(chosen, _split(outputs, [s.boxes.shape[1] for s in sets]), strict=True)
    return [answers[index] for index in range(len(asked))]


def _joined(sets: Sequence[Queries]) -> Queries:
    return Queries(
        torch.cat([s.content for s in sets], 1),
        torch.cat([s.boxes for s in sets], 1),
        torch.cat([s.valid for s in sets], 1),
        sum(s.groups for s in sets),
    )


def _split(outputs: DetrOutputs, sizes: list[int]) -> list[DetrOutputs]:
    parts = (
        torch.split(outputs.logits, sizes, 2),
        torch.split(outputs.boxes, sizes, 2),
        torch.split(outputs.hidden, sizes, 1),
        [None] * len(sizes) if outputs.corners is None else torch.split(outputs.corners, sizes, 2),
    )
    return [DetrOutputs(*part) for part in zip(*parts, strict=True)]
