"""Refuse answers that are no numbers before a matcher meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedetr.runtime.errors import EdgeDetrError

if TYPE_CHECKING:
    from torch import Tensor


class NotFiniteError(EdgeDetrError):
    """A network answered with NaN or infinity."""


def require_finite(**answers: Tensor) -> None:
    """Refuse tensors that hold NaN or infinity.

    Raises:
        NotFiniteError: With the names of those that do.
    """
    wrong = [name for name, tensor in answers.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise NotFiniteError(", ".join(wrong))
