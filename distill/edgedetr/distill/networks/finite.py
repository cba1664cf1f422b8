"""Refuse outputs that are not finite before they reach a matcher or a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedetr.runtime.errors import EdgeDetrError

if TYPE_CHECKING:
    from torch import Tensor


class NotFiniteError(EdgeDetrError):
    """An output of a network is NaN or infinite.

    Attributes:
        names: Which outputs.
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
    finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()
    wrong = [name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite]
    if wrong:
        raise NotFiniteError(", ".join(wrong))
