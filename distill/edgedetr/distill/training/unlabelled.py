"""Frames without labels, which only a teacher teaches, mixed into the batches of a labelled split.

They have no detection loss. What the teacher detects in them with confidence takes the place
of their labels in every distillation loss.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torchvision.ops import box_convert

from edgedetr.distill.data import Sample, Truth
from edgedetr.distill.networks.whole_batch import labelled_part
from edgedetr.distill.training.sampling import ALONE, Item, Share
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from edgedetr.distill.config import DataConfig
    from edgedetr.distill.data import Dataset
    from edgedetr.distill.model import Model
    from edgedetr.distill.training.teacher_cache import TeacherMemory
    from edgedetr.distill.types import Features, Losses, Targets

FRAME_NS = 100_000_000
"""Photos have no capture time: ten a second, by name."""


class MixedFrames:
    """A labelled split, and behind it the frames of a folder.

    Args:
        labelled: The split.
        folder: Images without labels.

    Attributes:
        class_names: The split's.
        ids: Name of each frame.
        truths: The labels of each frame; none of those without.
        paths: Image file of each frame.
        unlabelled: How many frames have no labels.

    Raises:
        DataError: If the folder is missing or holds no image.
    """

    def __init__(self, labelled: Dataset, folder: str | os.PathLike[str]) -> None:
        self._labelled, self._paths = labelled, list_images(folder)
        self.class_names = labelled.class_names
        self.ids = (*labelled.ids, *(path.name for path in self._paths))
        self.truths = (*labelled.truths, *(_nothing() for _ in self._paths))
        self.paths = (*labelled.paths, *self._paths)
        self.unlabelled = len(self._paths)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one frame; raises DataError when its image cannot be read."""
        place = index - len(self._labelled)
        if place < 0:
            return self._labelled[index]
        image = read_image(self._paths[place])
        frame = Frame(image, place * FRAME_NS, self._paths[place].stem)
        return Sample(frame, self.truths[index], labelled=False)


class Order(Protocol):
    """Gives the items of each batch of an epoch.

    Attributes:
        epoch: Which epoch comes, counted from 0.
        done: How many of its batches are left out, as they were trained before.
    """

    epoch: int
    done: int

    @property
    def has_one_size(self) -> bool:
        """Whether all images of all batches have the same size."""
        ...

    @property
    def least_images(self) -> int:
        """How many images of one kind, with labels or without, the smallest batch has."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[Item]]: ...

    def whole(self) -> Iterator[list[Item]]:
        """Give what all processes together have of each batch."""
        ...


class MixedOrder:
    """Adds frames without labels to the batches of a labelled split, new ones at each epoch.

    They get the scale of their batch.

    Args:
        labelled: The order of the labelled frames, whose batches leave room.
        first: Index of the first frame without labels.
        unlabelled: How many there are.
        count: How many a batch gets, over all processes.
        seed: Of their order.
        share: What one process takes of them.

    Attributes:
        epoch: Which epoch comes, counted from 0.
        done: How many of its batches are left out, as they were trained before.
    """

    def __init__(
        self,
        labelled: Order,
        first: int,
        unlabelled: int,
        count: int,
        seed: int,
        share: Share = ALONE,
    ) -> None:
        self._labelled, self._first, self._unlabelled = labelled, first, unlabelled
        self._count, self._seed, self._share = count, seed, share
        self.epoch = self.done = 0

    @property
    def has_one_size(self) -> bool:
        """Whether all images of all batches have the same size."""
        return self._labelled.has_one_size

    @property
    def least_images(self) -> int:
        """How many images of one kind, with labels or without, the smallest batch has."""
        return min(self._count, self._labelled.least_images)

    def __len__(self) -> int:
        return len(self._labelled)

    def __iter__(self) -> Iterator[list[Item]]:
        return self._mixed(self._labelled, self._share)

    def whole(self) -> Iterator[list[Item]]:
        """Yield what all processes together have of each batch."""
        return self._mixed(self._labelled.whole(), ALONE)

    def _mixed(self, labelled: Iterable[list[Item]], share: Share) -> Iterator[list[Item]]:
        self._labelled.epoch, self._labelled.done = self.epoch, self.done
        rng = np.random.default_rng([self._seed, self.epoch, 1])
        rounds = -(-len(self) * self._count // self._unlabelled)
        order = np.concatenate([rng.permutation(self._unlabelled) for _ in range(rounds)])
        for step, batch in enumerate(labelled, self.done):
            chosen = share.of(order[step * self._count : (step + 1) * self._count].tolist())
            scale = batch[0].scale
            yield [*batch, *(Item(self.epoch, self._first + i, scale=scale) for i in chosen)]


def with_unlabelled(labelled: Dataset, config: DataConfig) -> Dataset:
    """Return a training split with the frames that have no labels behind it, if there are any.

    Raises:
        DataError: If their folder is missing or holds no image.
    """
    return MixedFrames(labelled, config.unlabelled) if config.unlabelled else labelled


def unlabelled_count(batch_size: int, share: float) -> int:
    """Return how many frames of a batch have no labels: at least one, and never all."""
    return min(batch_size - 1, max(1, round(share * batch_size)))


def least_batch(batch_size: int, config: DataConfig) -> int:
    """Return how many images a network sees at once, of those with labels or of the others."""
    if not config.unlabelled:
        return batch_size
    count = unlabelled_count(batch_size, config.unlabelled_share)
    return min(count, batch_size - count)


def hash_of_names(folder: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of the names of a folder's images."""
    names = "\0".join(path.name for path in list_images(folder))
    return hashlib.sha256(names.encode()).hexdigest()


def passed(student: Model, images: Tensor, targets: Sequence[Targets]) -> tuple[Losses, Features]:
    """Return the detection losses of the images that have labels, and the memory of all.

    Those without are encoded by themselves, so that no family's loss sees them; a batch norm sees
    them apart, too.

    Args:
        student: In training.
        images: Its input (B, 3, H, W), at least one of them labelled.
        targets: The truth of each image.
    """
    labelled = [index for index, t in enumerate(targets) if t.labelled]
    others = [index for index, t in enumerate(targets) if not t.labelled]
    if not others:
        return student.training_pass(images, targets)
    mine, theirs = (
        images[rows].contiguous(memory_format=torch.channels_last) for rows in (labelled, others)
    )
    with labelled_part():
        losses, memory = student.training_pass(mine, [targets[i] for i in labelled])
    apart = zip(memory.tensors(), student.encode(theirs).tensors(), strict=True)
    order = torch.tensor([*labelled, *others], device=images.device).argsort()
    return losses, memory.with_tensors([torch.cat(parts)[order] for parts in apart])


@torch.no_grad()
def for_distillation(
    images: Tensor, targets: Sequence[Targets], teacher: TeacherMemory, least_score: float
) -> list[Targets]:
    """Return the truth for distillation: of frames without labels, the teacher's detections.

    Args:
        images: The student's input (B, 3, H, W).
        targets: The truth of each image.
        teacher: Detects in those without labels.
        least_score: From which score on.
    """
    found = list(targets)
    rows = [index for index, t in enumerate(targets) if not t.labelled]
    if not rows:
        return found
    logits, boxes = teacher.predict(images[rows], [targets[i] for i in rows])
    scores, labels = logits.sigmoid().max(-1)
    corners = box_convert(boxes, "cxcywh", "xyxy").clamp(0, 1)
    sides = (corners[..., 2:] - corners[..., :2]).amin(-1)
    sure = (scores >= least_score) & (sides > 0)
    seen = box_convert(corners, "xyxy", "cxcywh")
    for place, row in enumerate(rows):
        kept = sure[place]
        found[row] = replace(targets[row], labels=labels[place][kept], boxes=seen[place][kept])
    return found


def _nothing() -> Truth:
    return Truth(
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        np.zeros((0, 4), np.float32),
    )
