"""Refuse outputs that are not finite before they reach a matcher or a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedetr.distill.networks.device_reads import read_later
from edgedetr.runtime.errors import EdgeDetrError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
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
    _refuse(list(tensors), _finite(tensors).cpu().numpy())


def require_finite_when_read(**tensors: Tensor) -> None:
    """Do as `require_finite` with the next read of the device, for what is harmless until then."""
    read_later(_finite(tensors), lambda finite: _refuse(list(tensors), finite))


def _finite(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).float()


def _refuse(names: Sequence[str], finite: NDArray[np.float32]) -> None:
    wrong = [name for name, is_finite in zip(names, finite, strict=True) if not is_finite]
    if wrong:
        raise NotFiniteError(", ".join(wrong))
