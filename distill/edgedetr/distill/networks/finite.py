"""Refuse answers that are no numbers before a matcher or a kernel meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedetr.runtime.errors import EdgeDetrError

if TYPE_CHECKING:
    from torch import Tensor


class NotFiniteError(EdgeDetrError):
    """A network computes NaN or infinity.

    Attributes:
        names: What it computes so.
    """

    def __init__(self, names: str) -> None:
        super().__init__(f"the network's {names} are not finite; its training diverged")
        self.names = names


def require_finite(**tensors: Tensor) -> None:
    """Refuse tensors that hold NaN or infinity; a network that is exported holds no such check.

    Raises:
        NotFiniteError: With the names of those that do.
    """
    if torch.onnx.is_in_onnx_export():
        return
    wrong = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise NotFiniteError(", ".join(wrong))
