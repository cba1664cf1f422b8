"""Distillation points: queries that student and teacher decode alike.

They come from the ground truth (CLoCKDistill), from the teacher (KD-DETR's specific points) or from
chance (its general points). Slot i of the student's outputs pairs with slot i of the teacher's.

Content is what each model sees at inference. A query of no class gets each model's own content for
its place (`place_content`); the teacher's own queries keep theirs for the teacher. A query of an
object's class gets the embedding of that class, or the place's where the model does not know the
class. Where both models are of one family and width, the
student gets the teacher's embeddings, of classes and of the teacher's own queries alike.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from edgedetr.distill.networks import whole_batch
from edgedetr.distill.networks.criterion import IGNORED_SHARE, share_inside
from edgedetr.distill.types import DetrOutputs, Queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Batch, Memory, Targets

RandomBoxes = Literal["mixed", "uniform", "gaussian"]

MIN_SIZE = 1e-3
"""Smallest width and height of a query's box, as a fraction of the input."""

RANDOM_SIZES = (0.02, 0.8)
"""Width and height of a random query's box, as fractions of the input."""

NEAR_SHARE = 0.5
"""Share of mixed random queries that lie near a box of the truth or of the teacher."""

NEAR_NOISE = 0.4
"""How far these are moved, as a share of the box's half size (DN-DETR's noise)."""

SIZE_NOISE = 0.2
"""How far, as a logarithm, the sizes of the others lie from those of objects."""


@dataclass(frozen=True, eq=False)
class SharedQueries:
    """One set of queries whose content depends on the model.

    Attributes:
        labels: Class indices (B, Q); None where the queries stand for no object.
        boxes: cxcywh in [0, 1], (B, Q, 4).
        valid: False in slots that only fill up the batch, (B, Q).
        groups: Number of equal groups of slots that do not see one another.
        content: The teacher's own embeddings (B, Q, D) of them, if it has any.
    """

    labels: Tensor | None
    boxes: Tensor
    valid: Tensor
    groups: int = 1
    content: Tensor | None = None

    def queries(self, model: Model, memory: Memory) -> Queries:
        """Give the queries the content that a model makes from class or place.

        Args:
            model: The model that decodes them.
            memory: What its encoder gave.
        """
        if self.labels is None:
            content = model.place_content(memory, self.boxes)
        else:
            content = model.label_content(self.labels, self.boxes)
            if model.known_classes is not None:
                known = torch.isin(self.labels, self.labels.new_tensor(model.known_classes))
                place = model.place_content(memory, self.boxes)
                content = torch.where(known.unsqueeze(-1), content, place)
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
            and queries of no class whose box the teacher puts inside an ignored area.
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
    if noise.label > 0 or noise.box > 0:  # it is drawn for the whole batch, in one shape
        slots = max(whole_batch.sizes([len(t.labels) for t in targets]))
        more = max(0, slots - labels.shape[1])
        labels, boxes = F.pad(labels, (0, more)), F.pad(boxes, (0, 0, 0, more))
    if labels.shape[1] == 0:
        labels = labels.new_zeros((len(targets), 1))
        boxes = boxes.new_full((len(targets), 1, 4), 0.5)
    valid = torch.arange(labels.shape[1], device=labels.device) < counts[:, None]
    boxes = torch.where(valid.unsqueeze(-1), boxes, boxes.new_full((), 0.5))
    labels, valid = labels.repeat(1, groups), valid.repeat(1, groups)
    boxes = boxes.repeat(1, groups, 1)
    if noise.label > 0:
        other = whole_batch.drawn(
            lambda shape: torch.randint(0, noise.num_classes, shape, device=labels.device),
            labels.shape,
        )
        noisy = _uniform(labels.shape, labels.device) < noise.label
        labels = torch.where(noisy, other, labels)
    return SharedQueries(labels, _moved(boxes, noise.box), valid, groups)


def teacher_queries(memory: Memory, count: int | None = None) -> SharedQueries:
    """Take the queries that the teacher chose itself on these images.

    Args:
        memory: The teacher's.
        count: How many of an image's, drawn at random, new ones at each call; None takes all.
    """
    own = memory.own
    content, boxes, valid = own.content.detach(), own.boxes.detach(), own.valid
    if count is not None and count < valid.shape[1]:
        order = _uniform(valid.shape, valid.device) + ~valid
        chosen = order.argsort(1)[:, :count]
        valid = valid.gather(1, chosen)
        content, boxes = (
            x.gather(1, chosen.unsqueeze(-1).expand(-1, -1, x.shape[-1])) for x in (content, boxes)
        )
    return SharedQueries(None, boxes, valid, content=content)


def random_queries(
    memory: Memory, targets: Sequence[Targets], count: int, kind: RandomBoxes = "mixed"
) -> SharedQueries:
    """Draw queries of no class, new ones at each call.

    Args:
        memory: The teacher's, of the images that they are for.
        targets: The truth of these images.
        count: Queries an image.
        kind: ``mixed`` draws `NEAR_SHARE` of them near boxes of the truth and of the teacher, as
            many of each, and the others all over the image in the sizes of the batch's objects,
            each as often as it occurs; ``uniform`` draws centres evenly over the image and sizes
            evenly on a logarithmic scale over `RANDOM_SIZES`; ``gaussian`` is KD-DETR's code, the
            sigmoid of a standard normal in all four coordinates: most boxes are large and lie in
            the middle.
    """
    shape, device = (len(memory.tokens), count), memory.tokens.device
    if kind == "mixed":
        near = round(NEAR_SHARE * count)
        boxes = torch.cat(
            [_near_boxes(memory, targets, near), _spread_boxes(targets, count - near)], 1
        )
    elif kind == "uniform":
        centres = _uniform((*shape, 2), device)
        boxes = torch.cat([centres, _log_uniform((*shape, 2), device)], -1)
    else:
        draw = partial(torch.randn, device=device)
        boxes = whole_batch.drawn(draw, (*shape, 4)).sigmoid()
    return SharedQueries(None, boxes, torch.ones(shape, dtype=torch.bool, device=device))


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
        queries = [
            s.queries(teacher, batch.teacher_memory)
            if s.content is None
            else Queries(s.content, s.boxes, s.valid, s.groups)
            for s in sets
        ]
        teacher_outputs = _decoded(queries, teacher, batch.teacher_memory)
    queries = [
        q
        if alike and (s.labels is not None or s.content is not None)
        else s.queries(student, batch.memory)
        for q, s in zip(queries, sets, strict=True)
    ]
    student_outputs = _decoded(queries, student, batch.memory)
    return [
        SharedOutputs(mine, theirs, _counts(s, theirs, batch.targets))
        for s, mine, theirs in zip(sets, student_outputs, teacher_outputs, strict=True)
    ]


def outside_ignored(boxes: Tensor, targets: Sequence[Targets]) -> Tensor:
    """Tell which boxes (B, Q, 4) do not lie in an ignored area of their image, (B, Q)."""
    if not any(len(t.ignored) for t in targets):
        return torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    areas = pad_sequence([t.ignored for t in targets], batch_first=True)
    return share_inside(boxes, areas) < IGNORED_SHARE


def _counts(shared: SharedQueries, teacher: DetrOutputs, targets: Sequence[Targets]) -> Tensor:
    if shared.labels is not None:
        return shared.valid
    return shared.valid & outside_ignored(teacher.boxes[-1], targets)


def _near_boxes(memory: Memory, targets: Sequence[Targets], count: int) -> Tensor:
    """Draw boxes of the truth and of the teacher, as often each, and move them, (B, count, 4)."""
    truth, own = target_queries(targets), memory.own
    order = truth.boxes.sum(-1).argsort(1)  # a draw does not depend on the order of the objects
    objects = truth.boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
    chances = torch.cat(
        [
            truth.valid.gather(1, order) / truth.valid.sum(1, keepdim=True).clamp(min=1),
            own.valid / own.valid.sum(1, keepdim=True),
        ],
        1,
    )
    chosen = _chosen(chances, count).unsqueeze(-1)
    boxes = torch.cat([objects, own.boxes.detach()], 1)
    return _moved(boxes.gather(1, chosen.expand(-1, -1, 4)), NEAR_NOISE)


def _spread_boxes(targets: Sequence[Targets], count: int) -> Tensor:
    """Draw boxes all over each image in the sizes of all images' objects, (B, count, 4).

    The sizes are stratified: of n boxes each comes from another n-th of the objects, by their area.
    """
    part = whole_batch.current_part()
    found = torch.cat([t.boxes for t in (part.targets if part else targets)])[:, 2:]
    shape = (len(targets), count)
    centres = _uniform((*shape, 2), found.device)
    if len(found) == 0:
        return torch.cat([centres, _log_uniform((*shape, 2), found.device)], -1)
    by_area = found[found.prod(1).argsort()]
    strata = torch.arange(count, device=found.device) + _uniform(shape, found.device)
    sizes = by_area[(strata * len(found) / max(1, count)).long().clamp(max=len(found) - 1)]
    sizes = sizes * (SIZE_NOISE * (_uniform(sizes.shape, sizes.device) * 2 - 1)).exp()
    return torch.cat([centres, sizes.clamp(MIN_SIZE, 1)], -1)


def _log_uniform(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Draw sizes evenly on a logarithmic scale over `RANDOM_SIZES`."""
    low, high = map(math.log, RANDOM_SIZES)
    return (low + (high - low) * _uniform(shape, device)).exp()


def _uniform(shape: Sequence[int], device: torch.device) -> Tensor:
    """Draw evenly from [0, 1), (B, ...), for the whole batch."""
    return whole_batch.drawn(partial(torch.rand, device=device), shape)


def _chosen(chances: Tensor, count: int) -> Tensor:
    """Draw ``count`` columns of each row of (B, n) by its chances, (B, count), with replacement."""

    def draw(shape: tuple[int, ...]) -> Tensor:
        every = chances.new_ones((shape[0], chances.shape[1]))
        every[list(part.rows) if part else slice(None)] = chances
        return torch.multinomial(every, count, replacement=True)

    part = whole_batch.current_part()
    return whole_batch.drawn(draw, (len(chances), count))


def _moved(boxes: Tensor, noise: float) -> Tensor:
    """Move centres by up to ``noise`` half sizes and sizes by up to that share, inside bounds."""
    if noise > 0:
        size = boxes[..., 2:]
        shift = (_uniform(size.shape, size.device) * 2 - 1) * size / 2 * noise
        growth = 1 + (_uniform(size.shape, size.device) * 2 - 1) * noise
        boxes = torch.cat([boxes[..., :2] + shift, size * growth], dim=-1)
    return torch.cat([boxes[..., :2].clamp(0, 1), boxes[..., 2:].clamp(MIN_SIZE, 1)], dim=-1)


def _decoded(sets: Sequence[Queries], model: Model, memory: Memory) -> list[DetrOutputs]:
    """Decode sets whose groups have one size together, each set as groups of its own."""
    alike: dict[int, list[int]] = defaultdict(list)
    for index, queries in enumerate(sets):
        alike[queries.boxes.shape[1] // queries.groups].append(index)
    decoded: dict[int, DetrOutputs] = {}
    for chosen in alike.values():
        group = [sets[index] for index in chosen]
        outputs = model.decode(memory, _joined(group))
        decoded |= zip(chosen, _split(outputs, [s.boxes.shape[1] for s in group]), strict=True)
    return [decoded[index] for index in range(len(sets))]


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
        [outputs.known] * len(sizes),
    )
    return [DetrOutputs(*part) for part in zip(*parts, strict=True)]
