"""Weights that a student takes over from its teacher before it trains.

Weight selection (Xu et al., "Initializing Models with Larger Ones", ICLR 2024, arXiv:2311.18823):
each tensor of the student is the teacher's tensor of the same name with evenly spaced channels of
each axis, and so the whole tensor where both have the same shape.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from edgedetr.distill.model import new_model
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from edgedetr.distill.model import Model


@torch.no_grad()
def inherit(student: Model, teacher: Model, part: str = "") -> list[str]:
    """Give every tensor of a student that fits evenly spaced channels of its teacher's.

    A tensor fits where the teacher has one of the same name with as many axes, none shorter and
    kernels of the same size. Whatever knows the classes is left out unless both models have the
    same classes in the same order.

    Args:
        student: The network that is written to.
        teacher: The network that is read.
        part: Only tensors whose name begins so.

    Returns:
        The names of the tensors that were taken over.

    Raises:
        UsageError: If there is none.
    """
    theirs = teacher.network.state_dict()
    same_classes = student.spec.class_names == teacher.spec.class_names
    left_out = set() if same_classes else _class_tensors(student)
    taken = []
    for name, tensor in student.network.state_dict().items():
        if name.startswith(part) and name in theirs and name not in left_out:
            source = theirs[name]
            if tensor.ndim and _fits(tensor, source):
                tensor.copy_(evenly_spaced(source, tensor.shape))
                taken.append(name)
    if not taken:
        raise UsageError(
            f"{student.family}/{student.preset} can inherit nothing from its teacher "
            f"{teacher.family}/{teacher.preset}: no tensor {part and f'of {part!r} '}has the same "
            "name and fits; choose a preset of the teacher's family that is no larger, or set "
            "student.inherit = false"
        )
    return taken


def evenly_spaced(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Select ``shape[d]`` evenly spaced entries, the first among them, along each axis d."""
    for axis, (wanted, found) in enumerate(zip(shape, tensor.shape, strict=True)):
        if wanted != found:
            chosen = torch.arange(wanted, device=tensor.device) * found // wanted
            tensor = tensor.index_select(axis, chosen)
    return tensor


def _fits(tensor: Tensor, source: Tensor) -> bool:
    if tensor.ndim != source.ndim or tensor.shape[2:] != source.shape[2:]:
        return False
    return all(a <= b for a, b in zip(tensor.shape, source.shape, strict=True))


def _class_tensors(model: Model) -> set[str]:
    """Name the tensors whose shape depends on how many classes there are."""
    names = (*model.spec.class_names, "one more")
    with torch.random.fork_rng():
        wider = new_model(model.family, model.preset, replace(model.spec, class_names=names))
    shapes = {name: tensor.shape for name, tensor in wider.network.state_dict().items()}
    return {n for n, tensor in model.network.state_dict().items() if shapes[n] != tensor.shape}
