"""Weights that a student takes over from its teacher before it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from edgedetr.distill.model import Model


@torch.no_grad()
def inherit(student: Model, teacher: Model, part: str = "") -> list[str]:
    """Copy every tensor that has the same name and shape in both networks.

    Args:
        student: The network that is written to.
        teacher: The network that is read.
        part: Only tensors whose name begins so.

    Returns:
        The names of the tensors that were copied.

    Raises:
        UsageError: If there is none.
    """
    theirs = teacher.network.state_dict()
    copied = []
    for name, tensor in student.network.state_dict().items():
        fits = name.startswith(part) and name in theirs and theirs[name].shape == tensor.shape
        if fits and tensor.ndim:
            tensor.copy_(theirs[name])
            copied.append(name)
    if not copied:
        raise UsageError(
            f"{student.family}/{student.preset} can inherit nothing from its teacher "
            f"{teacher.family}/{teacher.preset}: no tensor {part and f'of {part!r} '}has the same "
            "name and shape; choose a preset of the teacher's width, or set student.inherit = false"
        )
    return copied
