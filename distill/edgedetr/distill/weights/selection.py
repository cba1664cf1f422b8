"""Weight selection: what a student takes over from its teacher before it trains.

Weight selection (Xu et al., "Initializing Models with Larger Ones", ICLR 2024, arXiv:2311.18823):
each tensor of the student is the teacher's tensor of the same name with evenly spaced channels of
each axis, and so the whole tensor where both have the same shape. Of a deformable attention whole
heads and whole sampling points are selected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from edgedetr.distill.model import new_model
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgedetr.distill.model import Model


@torch.no_grad()
def inherit(student: Model, teacher: Model, part: str = "") -> list[str]:
    """Give every tensor of a student that fits evenly spaced channels of its teacher's.

    A tensor fits where the teacher has one of the same name with as many axes, none shorter and
    kernels of the same size; where its rows are sampling points, each head needs as many in each
    level. Whatever knows the classes is left out unless both models have the same classes in the
    same order.

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
    my_points, their_points = _sampling_points(student.network), _sampling_points(teacher.network)
    same_classes = student.spec.class_names == teacher.spec.class_names
    left_out = set() if same_classes else class_tensors(student)
    taken = []
    for name, tensor in student.network.state_dict().items():
        if not name.startswith(part) or name not in theirs or name in left_out:
            continue
        mine = _parts(tensor, my_points.get(name))
        found = _parts(theirs[name], their_points.get(name))
        if tensor.shape[2:] == theirs[name].shape[2:] and _fit(mine, found):
            for own, other in zip(mine, found, strict=True):
                own.copy_(evenly_spaced(other, own.shape))
                if "sampling_offsets" in name:  # the attention divides them by a head's points
                    own.mul_(own.shape[1] / other.shape[1])
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


@dataclass(frozen=True)
class _Points:
    """Where a deformable attention reads: heads, and the points of each of them in each level."""

    heads: int
    in_levels: tuple[int, ...]


def _sampling_points(network: nn.Module) -> dict[str, _Points]:
    """Name the tensors whose rows belong to points: head by head, in each level by level."""
    return {
        f"{attention}.{layer}.{name}": _Points(
            module.n_heads,
            tuple(module.n_points)
            if isinstance(module.n_points, list)
            else (module.n_points,) * module.n_levels,
        )
        for attention, module in network.named_modules()
        if hasattr(module, "sampling_offsets")
        for layer in ("sampling_offsets", "attention_weights")
        for name, _ in module.get_submodule(layer).named_parameters()
    }


def _parts(tensor: Tensor, points: _Points | None) -> list[Tensor]:
    """Return a tensor as it is, or its rows in each level, (heads, points, ...): views of it."""
    if points is None:
        return [tensor]
    apart = tensor.view(points.heads, sum(points.in_levels), -1, *tensor.shape[1:])
    return list(torch.split(apart, list(points.in_levels), 1))


def _fit(mine: list[Tensor], found: list[Tensor]) -> bool:
    return len(mine) == len(found) and all(
        0 < own.ndim == other.ndim
        and all(a <= b for a, b in zip(own.shape, other.shape, strict=True))
        for own, other in zip(mine, found, strict=True)
    )


def class_tensors(model: Model) -> set[str]:
    """Name the tensors whose shape depends on how many classes there are."""
    names = (*model.spec.class_names, "one more")
    with torch.random.fork_rng():
        wider = new_model(model.family, model.preset, replace(model.spec, class_names=names))
    shapes = {name: tensor.shape for name, tensor in wider.network.state_dict().items()}
    return {n for n, tensor in model.network.state_dict().items() if shapes[n] != tensor.shape}
