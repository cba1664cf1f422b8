"""The frozen teacher's memory of a batch, remembered by the content of each image."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgedetr.distill.detectors import Memory, Queries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from edgedetr.distill.model import Model

LIMIT_BYTES = 1 << 30
"""How much a run remembers; what does not fit is computed each time."""


class TeacherMemory:
    """Encodes images with a frozen teacher, each different image once.

    The key is the image's content, so the answer is that of the teacher whatever augmentation does;
    it pays where the same inputs come back (mirroring alone) and is switched off elsewhere.

    Args:
        teacher: Its network is in evaluation mode and gets no gradient.
        limit_bytes: How much to remember; 0 remembers nothing.
    """

    def __init__(self, teacher: Model, limit_bytes: int = LIMIT_BYTES) -> None:
        self._teacher = teacher
        self._left = limit_bytes
        self._known: dict[bytes, tuple[Tensor, ...]] = {}
        self._shapes: tuple[tuple[int, int], ...] = ()
        self._decoder_inputs: Mapping[str, Any] = {}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Memory:
        """Return the teacher's memory of (B, 3, H, W)."""
        if not self._left and not self._known:
            return self._encode(images)
        keys = [hashlib.blake2b(i.cpu().numpy(), digest_size=16).digest() for i in images]
        rows = [
            self._known[key] if key in self._known else self._learn(key, images[row : row + 1])
            for row, key in enumerate(keys)
        ]
        tokens, mask, content, boxes, valid = (
            torch.stack(part) for part in zip(*rows, strict=True)
        )
        own = Queries(content, boxes, valid)
        return Memory(tokens, self._shapes, mask, own, self._decoder_inputs)

    def _encode(self, images: Tensor) -> Memory:
        return self._teacher.module.encode(self._teacher.network, images)

    def _learn(self, key: bytes, image: Tensor) -> tuple[Tensor, ...]:
        """Encode one image alone: what is known must not depend on what it was encoded with."""
        memory = self._encode(image)
        own = memory.own
        self._shapes, self._decoder_inputs = memory.spatial_shapes, memory.decoder_inputs
        batch = (memory.tokens, memory.mask, own.content, own.boxes, own.valid)
        parts = tuple(tensor[0].clone() for tensor in batch)
        size = sum(p.nbytes for p in parts)
        if size <= self._left:
            self._left -= size
            self._known[key] = parts
        return parts
