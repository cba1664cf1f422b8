"""The frozen teacher's memory of a batch, cached by the content of each image."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Features
LIMIT_BYTES = 1 << 30
"""Size of the cache; a teacher whose memories take more encodes each batch anew."""


class TeacherMemory:
    """Encodes images with a frozen teacher; those in its cache are not encoded again.

    The key is the image's content, so the memory is right whatever augmentation does.

    Args:
        teacher: Its network is in evaluation mode and gets no gradient.
    """

    def __init__(self, teacher: Model) -> None:
        self._teacher = teacher
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
    def __call__(self, images: Tensor) -> Features:
        """Return the teacher's memory or pyramid of (B, 3, H, W)."""
        rows = [self._known.get(_key(image)) for image in images] if self._known else []
        known = [row for row in rows if row is not None]
        if self._like is None or len(known) < len(images):
            return self._encode(images)
        return self._like.with_tensors([torch.stack(part) for part in zip(*known, strict=True)])

    def _encode(self, images: Tensor) -> Features:
        return self._teacher.encode(images.contiguous(memory_format=torch.channels_last))


def _key(image: Tensor) -> bytes:
    return hashlib.blake2b(image.cpu().numpy().data, digest_size=16).digest()
