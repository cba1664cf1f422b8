"""The frozen teacher's memory of a batch, cached by the content of each image."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from edgedetr.distill.networks.rescaling import Rescaling
from edgedetr.distill.types import Pyramid, out_of_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Features, Targets
    from edgedetr.runtime.spec import ModelSpec

LIMIT_BYTES = 1 << 30
"""Size of the cache; a teacher whose memories take more encodes each batch anew."""


class TeacherMemory:
    """Encodes images with a frozen teacher; those in its cache are not encoded again.

    The key is the image's content, so the memory is right whatever augmentation does. Where the
    teacher sees other pixels than the student, each batch is encoded anew.

    Args:
        teacher: Its network is in evaluation mode and gets no gradient.
        student: The input that images come normalised for; None is the teacher's own.
    """

    def __init__(self, teacher: Model, student: ModelSpec | None = None) -> None:
        self._teacher = teacher
        self._normalised = Rescaling(student or teacher.spec, teacher.spec)
        self._known: dict[bytes, tuple[Tensor, ...]] = {}
        self._like: Features | None = None

    @torch.no_grad()
    def fill(self, batches: Iterable[Tensor], images: int, limit_bytes: int = LIMIT_BYTES) -> None:
        """Encode images in advance, if the cache can hold all of them; else none.

        Always the same batches give the same bits, in whatever order the images come back.

        Args:
            batches: Network inputs (B, 3, H, W).
            images: How many they hold in all.
            limit_bytes: Size of the cache.
        """
        device = next(self._teacher.network.parameters()).device
        with tqdm(total=images, desc="teacher", unit="image", disable=None, leave=False) as bar:
            for batch in batches:
                features = self._encode(batch.to(device))
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
        if not views:
            return self._teacher.predict(self._normalised(images))
        pixels = torch.stack([v.pixels for v in views])
        logits, boxes = self._teacher.predict(self._normalised(pixels))
        return logits, out_of_frame(boxes, torch.stack([v.frame for v in views]))

    def _encode(self, images: Tensor) -> Features:
        """Encode the student's input, or uint8 pixels of the teacher's."""
        images = self._normalised(images)
        return self._teacher.encode(images.contiguous(memory_format=torch.channels_last))


def _in_frame(features: Features, frame: Tensor) -> Features:
    """Return a teacher's features with boxes in the student's frame."""
    if isinstance(features, Pyramid):
        return replace(features, frame=frame)
    own = replace(features.own, boxes=out_of_frame(features.own.boxes, frame))
    return replace(features, frame=frame, own=own)


def _key(image: Tensor) -> bytes:
    return hashlib.blake2b(image.cpu().numpy().data, digest_size=16).digest()
