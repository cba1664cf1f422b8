"""The frozen teacher's memory of a batch, remembered by the content of each image."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

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
        self._last: Any = None

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Any:  # noqa: ANN401 - what the family's `encode` gives
        """Return the teacher's memory or pyramid of (B, 3, H, W)."""
        if not self._left and not self._known:
            return self._teacher.encode(images)
        keys = [hashlib.blake2b(i.cpu().numpy(), digest_size=16).digest() for i in images]
        rows = [
            self._known[key] if key in self._known else self._learn(key, images[row : row + 1])
            for row, key in enumerate(keys)
        ]
        return self._last.with_tensors([torch.stack(part) for part in zip(*rows, strict=True)])

    def _learn(self, key: bytes, image: Tensor) -> tuple[Tensor, ...]:
        """Encode one image alone: what is known must not depend on what it was encoded with."""
        self._last = self._teacher.encode(image)
        parts = tuple(tensor[0].clone() for tensor in self._last.tensors())
        size = sum(p.nbytes for p in parts)
        if size <= self._left:
            self._left -= size
            self._known[key] = parts
        return parts
