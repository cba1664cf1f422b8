"""The frozen teacher's memory of a batch: computed, remembered by content, or read from disk."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from edgedetr.distill.networks.rescaling import Rescaling
from edgedetr.distill.types import Pyramid, out_of_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from edgedetr.distill.model import Model
    from edgedetr.distill.training.answer_store import AnswerStore, Parts
    from edgedetr.distill.types import Features, Targets, TeacherAnswer
    from edgedetr.runtime.spec import ModelSpec

LIMIT_BYTES = 1 << 30
"""Size of the cache; a teacher whose memories take more encodes each batch anew."""


class TeacherMemory:
    """Encodes images with a frozen teacher; those in its cache are not encoded again.

    The key is the image's content, so the memory is right whatever augmentation does. Where the
    teacher sees other pixels than the student, each batch is encoded anew.

    With a store, targets come with what that holds of each image. The images whose answer is
    missing are encoded, and the answers added to the store. An answer is always what a later
    reading of it gives, rounded as it is stored. It does not depend on which others of its batch
    were missing, so that a run that goes on behind its last state has the same ones.

    Args:
        teacher: Its network is in evaluation mode and gets no gradient.
        student: The input that images come normalised for; None is the teacher's own.
        store: The answers on disk.

    Attributes:
        teacher: The teacher.
        store: The answers on disk; None for none.
        read: How many answers were there.
        made: How many were missing.
    """

    def __init__(
        self, teacher: Model, student: ModelSpec | None = None, store: AnswerStore | None = None
    ) -> None:
        self.teacher = teacher
        self._normalised = Rescaling(student or teacher.spec, teacher.spec)
        self._known: dict[bytes, tuple[Tensor, ...]] = {}
        self._like: Features | None = None
        self._of_size: dict[tuple[int, ...], Features] = {}
        self.store = store
        self.read = self.made = 0

    @torch.no_grad()
    def fill(self, batches: Iterable[Tensor], images: int, limit_bytes: int = LIMIT_BYTES) -> None:
        """Encode images in advance, if the cache can hold all of them; else none.

        Always the same batches give the same bits, in whatever order the images come back.

        Args:
            batches: Network inputs (B, 3, H, W).
            images: How many they hold in all.
            limit_bytes: Size of the cache.
        """
        with tqdm(total=images, desc="teacher", unit="image", disable=None, leave=False) as bar:
            for batch in batches:
                features = self._encode(batch)
                self._like, parts = features, features.tensors()
                if images * sum(p[0].nbytes for p in parts) > limit_bytes:
                    return
                for image, *rows in zip(batch, *parts, strict=True):
                    self._known[_key(image)] = tuple(rows)
                bar.update(len(batch))

    @torch.no_grad()
    def __call__(self, images: Tensor, targets: Sequence[Targets] = ()) -> Features:
        """Return the teacher's memory or pyramid of (B, 3, H, W).

        Args:
            images: The student's input.
            targets: What holds the teacher's own, where that differs.
        """
        if self.store is not None:
            return self._stored(self.store, images, targets)
        return self.ask(images, targets)

    @torch.no_grad()
    def ask(self, images: Tensor, targets: Sequence[Targets] = ()) -> Features:
        """Return the teacher's memory or pyramid without looking into the store."""
        views = [t.view for t in targets if t.view is not None]
        if views:
            return _in_frame(
                self._encode(torch.stack([v.pixels for v in views])),
                torch.stack([v.frame for v in views]),
            )
        rows = [self._known.get(_key(image)) for image in images] if self._known else []
        known = [row for row in rows if row is not None]
        if self._like is None or len(known) < len(images):
            return self._encode(images)
        return self._like.with_tensors([torch.stack(part) for part in zip(*known, strict=True)])

    @torch.no_grad()
    def predict(self, images: Tensor, targets: Sequence[Targets]) -> tuple[Tensor, Tensor]:
        """Detect in the images of a batch, as `Model.predict`; boxes are in the student's frame."""
        views = [t.view for t in targets if t.view is not None]
        if self.store is None:
            logits, boxes = self._predict(_seen(images, targets))
        else:
            found = self._detections(self.store, images, targets)
            logits, boxes = _joined(found, images.device)
        return logits, out_of_frame(boxes, torch.stack([v.frame for v in views]) if views else None)

    @torch.no_grad()
    def add_to_store(self, images: Tensor, targets: Sequence[Targets]) -> None:
        """Add what the store lacks of a batch: detections too of images without labels."""
        self(images, targets)
        rows = [index for index, t in enumerate(targets) if not t.labelled]
        if rows:
            self.predict(images[rows], [targets[i] for i in rows])

    def flush(self) -> None:
        """Write what was added to the store, if any; raises OSError if the disk is full."""
        if self.store is not None:
            self.store.flush()

    @torch.no_grad()
    def answer_bytes(self, image: Tensor, targets: Targets) -> int:
        """Return how many bytes the store needs for the features of an image (3, H, W)."""
        assert self.store is not None  # noqa: S101 - the caller saw to it
        parts = self._features_like(_seen(image[None], [targets])).tensors()
        return sum(self.store.rounded(part[0]).nbytes for part in parts)

    def _features_like(self, images: Tensor) -> Features:
        """Return the teacher's features of an image of the size of some, (B, 3, H, W)."""
        hw = tuple(images.shape[-2:])
        if hw not in self._of_size:
            self._of_size[hw] = self._encode(torch.zeros_like(images[:1]))
        return self._of_size[hw]

    def _stored(self, store: AnswerStore, images: Tensor, targets: Sequence[Targets]) -> Features:
        """Return the features of a batch from the store, and add what it lacks."""
        answers = [_answer_of(t) for t in targets]
        rows = [a.features or store.find("features", a.key) for a in answers]
        for answer, row in zip(answers, rows, strict=True):
            if row and answer.item and not store.holds("features", answer.item):
                store.keep("features", answer, row)  # another picture of the same pixels
        missing = sum(row is None for row in rows)
        self.read, self.made = self.read + len(rows) - missing, self.made + missing
        if missing:
            fresh = self._encode(_seen(images, targets)).tensors()
            _fill(rows, answers, fresh, partial(store.add, "features"))
        like = self._features_like(_seen(images[:1], targets[:1]))
        found = like.with_tensors(_joined([row for row in rows if row], images.device))
        views = [t.view for t in targets if t.view is not None]
        return _in_frame(found, torch.stack([v.frame for v in views])) if views else found

    def _detections(
        self, store: AnswerStore, images: Tensor, targets: Sequence[Targets]
    ) -> list[Parts]:
        """Return detections from the store, in the teacher's frame, and add what it lacks."""
        answers = [_answer_of(t) for t in targets]
        rows = [a.detections or store.find("detections", a.key) for a in answers]
        if any(row is None for row in rows):
            fresh = self._predict(_seen(images, targets))
            _fill(rows, answers, fresh, partial(store.add, "detections"))
        return [row for row in rows if row]

    def _encode(self, images: Tensor) -> Features:
        """Encode the student's input, or uint8 pixels of the teacher's."""
        images = self._normalised(images.to(self._device))
        return self.teacher.encode(images.contiguous(memory_format=torch.channels_last))

    def _predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect in the student's input, or in uint8 pixels of the teacher's."""
        return self.teacher.predict(self._normalised(images.to(self._device)))

    @property
    def _device(self) -> torch.device:
        return next(self.teacher.network.parameters()).device


def _in_frame(features: Features, frame: Tensor) -> Features:
    """Return a teacher's features with boxes in the student's frame."""
    if isinstance(features, Pyramid):
        return replace(features, frame=frame)
    own = replace(features.own, boxes=out_of_frame(features.own.boxes, frame))
    return replace(features, frame=frame, own=own)


def _seen(images: Tensor, targets: Sequence[Targets]) -> Tensor:
    """Return what the teacher sees of images: their views' uint8 pixels, where they have some."""
    views = [t.view for t in targets if t.view is not None]
    return torch.stack([v.pixels for v in views]) if views else images


def _fill(
    rows: list[Parts | None],
    answers: Sequence[TeacherAnswer],
    fresh: Sequence[Tensor],
    add: Callable[[TeacherAnswer, Sequence[Tensor]], Parts],
) -> None:
    """Put what is missing of some images' answers in its place, out of fresh ones of all."""
    for index, parts in enumerate(zip(*fresh, strict=True)):
        if rows[index] is None:
            rows[index] = add(answers[index], parts)


def _answer_of(targets: Targets) -> TeacherAnswer:
    if targets.answer is None:
        raise ValueError("with a store, the loader must have asked it for each picture")
    return targets.answer


def _joined(rows: Sequence[Parts], device: torch.device) -> list[Tensor]:
    """Stack the parts of some images' answers; what was rounded is FP32 again."""
    parts = [torch.from_numpy(np.stack(part)).to(device) for part in zip(*rows, strict=True)]
    return [part.float() if part.is_floating_point() else part for part in parts]


def _key(image: Tensor) -> bytes:
    return hashlib.blake2b(image.cpu().numpy().data, digest_size=16).digest()
