"""Weight selection: what a student takes over from its teacher before it trains.

Weight selection (Xu et al., "Initializing Models with Larger Ones", ICLR 2024, arXiv:2311.18823):
each tensor of the student is the teacher's tensor of the same name with evenly spaced channels of
each axis, and so the whole tensor where both have the same shape. Of an attention whole heads are
selected, the same ones in all its projections, and of a deformable one whole sampling points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from edgedetr.distill.model import same_kind
from edgedetr.distill.weights.class_rows import by_class, row_count, rows_by_name
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgedetr.distill.model import Model


@torch.no_grad()
def inherit(student: Model, teacher: Model, part: str = "") -> list[str]:
    """Give every tensor of a student that fits evenly spaced channels of its teacher's.

    A tensor fits where the teacher has one of the same name with as many axes, none shorter and
    kernels of the same size; where an axis belongs to heads, the teacher needs as many heads, each
    with as many channels, or sampling points in each level. Of what knows the classes each row goes
    to the class of its name, see `rows_by_name`; the rows of other classes stay as they are.

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
    my_heads, their_heads = _heads(student.network), _heads(teacher.network)
    rows = rows_by_name(student, teacher)
    same_classes = rows == tuple(range(row_count(teacher)))
    by_row = {} if same_classes else class_tensors(student)
    taken = []
    for name, tensor in student.network.state_dict().items():
        if not name.startswith(part) or name not in theirs:
            continue
        if name in by_row:
            copied = _copy_rows(student, teacher, name, by_row[name])
        else:
            mine = _parts(tensor, my_heads.get(name))
            found = _parts(theirs[name], their_heads.get(name))
            same_kernels = tensor.shape[2:] == theirs[name].shape[2:]
            copied = same_kernels and _copy(name, mine, found)
        taken += [name] * copied
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
class _Heads:
    """How an axis of a tensor belongs to the heads of an attention, head by head.

    Attributes:
        axis: Which one.
        count: Heads.
        in_levels: Sampling points of a head in each level; empty where it has channels.
    """

    axis: int
    count: int
    in_levels: tuple[int, ...] = ()


def _heads(network: nn.Module) -> dict[str, _Heads]:
    """Name the tensors of a network of which an axis belongs to heads."""
    found: dict[str, _Heads] = {}
    for attention, module in network.named_modules():
        if hasattr(module, "sampling_offsets"):
            found |= _deformable(attention, module)
        elif hasattr(module, "head_dim") and hasattr(module, "q_proj"):
            count = module.q_proj.out_features // module.head_dim
            found |= _projections(attention, count, ("q_proj", "k_proj", "v_proj"))
            found |= {
                f"{attention}.{out}.weight": _Heads(1, count) for out in ("o_proj", "out_proj")
            }
    return found


def _deformable(attention: str, module: Any) -> dict[str, _Heads]:  # noqa: ANN401
    """Name those of a deformable attention; D-FINE's has no projections of values."""
    points = module.n_points
    in_levels = tuple(points) if isinstance(points, list) else (points,) * module.n_levels
    by_point = _Heads(0, module.n_heads, in_levels)
    return {
        **{
            f"{attention}.{layer}.{name}": by_point
            for layer in ("sampling_offsets", "attention_weights")
            for name in ("weight", "bias")
        },
        **_projections(attention, module.n_heads, ("value_proj",)),
        f"{attention}.output_proj.weight": _Heads(1, module.n_heads),
    }


def _projections(attention: str, count: int, layers: tuple[str, ...]) -> dict[str, _Heads]:
    return {
        f"{attention}.{layer}.{name}": _Heads(0, count)
        for layer in layers
        for name in ("weight", "bias")
    }


def _parts(tensor: Tensor, heads: _Heads | None) -> list[Tensor]:
    """Return a tensor as it is, or with an axis of heads, level by level: views of it."""
    if heads is None:
        return [tensor]
    before, after = tensor.shape[: heads.axis], tensor.shape[heads.axis + 1 :]
    apart = tensor.view(*before, heads.count, -1, *after)
    if not heads.in_levels:
        return [apart]
    points = apart.view(heads.count, sum(heads.in_levels), -1, *after)
    return list(torch.split(points, list(heads.in_levels), 1))


def _fit(mine: list[Tensor], found: list[Tensor]) -> bool:
    return len(mine) == len(found) and all(
        0 < own.ndim == other.ndim
        and all(a <= b for a, b in zip(own.shape, other.shape, strict=True))
        for own, other in zip(mine, found, strict=True)
    )


def _copy(name: str, mine: list[Tensor], found: list[Tensor]) -> bool:
    """Take over the parts of a tensor; tell whether they fit."""
    if not _fit(mine, found):
        return False
    for own, other in zip(mine, found, strict=True):
        own.copy_(evenly_spaced(other, own.shape))
        if "sampling_offsets" in name:  # the attention divides them by a head's points
            own.mul_(own.shape[1] / other.shape[1])
    return True


def _copy_rows(student: Model, teacher: Model, name: str, step: int) -> bool:
    """Take over the rows of a tensor by the names of their classes; tell whether there were any."""
    known = [(i, row) for i, row in enumerate(rows_by_name(student, teacher)) if row is not None]
    own, rest = by_class(student.network, name, row_count(student), step)
    theirs, their_rest = by_class(teacher.network, name, row_count(teacher), step)
    channels = (own.shape[2:3], theirs.shape[2:3])
    if not known or own.shape[3:] != theirs.shape[3:] or not channels[0] <= channels[1]:
        return False
    for index, row in known[: len(own)]:
        own[index].copy_(evenly_spaced(theirs[row], own[index].shape))
    rest.copy_(evenly_spaced(their_rest, rest.shape))
    return True


def class_tensors(model: Model) -> dict[str, int]:
    """Name the tensors whose shape depends on how many classes there are, and a class's rows."""
    names = tuple(f"class {index}" for index in range(row_count(model) + 1))
    with torch.random.fork_rng():
        wider = same_kind(model, replace(model.spec, class_names=names))
    lengths = {name: t.shape[:1] for name, t in wider.network.state_dict().items()}
    return {
        name: lengths[name][0] - len(tensor)
        for name, tensor in model.network.state_dict().items()
        if lengths[name] != tensor.shape[:1]
    }
