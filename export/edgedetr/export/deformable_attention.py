"""How deformable attention reads a feature map in an exported graph: three forms of one operation.

Every family samples its maps by `torch.nn.functional.grid_sample` (bilinear, zeros outside, corners
not aligned). TensorRT is known to miscompile decoders around the node that it becomes, so a graph
can be exported with other nodes in its place:

``gather``
    The four cells around a point are rows of one Gather and are weighted: the same numbers.
``grid_sample``
    The node itself, as torch traces it.
``discrete``
    The nearest cell alone, as RT-DETRv2's discrete sampling has it (Lv et al., 2024, section 3): a
    quarter of the reads, and other numbers. A network that was not trained so loses accuracy.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn import functional as F

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

Form = Literal["gather", "grid_sample", "discrete"]


@contextmanager
def sampled_by(form: Form) -> Iterator[None]:
    """Let every network that runs inside read its maps in one of the forms.

    It replaces a function of torch while it is open: nothing else should run beside it.
    """
    before: Any = F.grid_sample
    forms: dict[Form, Any] = {"gather": _gather, "grid_sample": before, "discrete": _discrete}
    F.grid_sample = forms[form]
    try:
        yield
    finally:
        F.grid_sample = before


def bilinear_sample(maps: Tensor, points: Tensor) -> Tensor:
    """Read maps between their cells: `grid_sample` without its node.

    Cells outside are 0; they are one ring of padding here, to which every index is clamped.

    Args:
        maps: (N, C, H, W).
        points: x and y in [-1, 1] over the map from edge to edge, (N, Q, P, 2).

    Returns:
        (N, C, Q, P).
    """
    height, width = maps.shape[-2:]
    rows = F.pad(maps, (1, 1, 1, 1)).permute(0, 2, 3, 1).flatten(0, 2)
    size = points.new_tensor([width, height])
    # In the padded map the middle of the image's first cell lies at 1.
    places = points * (size / 2) + (size + 1) / 2
    first_cell = places.floor()
    shares = (places - first_cell).unsqueeze(-2)
    corners = points.new_tensor([[0, 0], [1, 0], [0, 1], [1, 1]])
    cells = torch.minimum((first_cell.unsqueeze(-2) + corners).clamp(min=0), size + 1)
    index = (cells * points.new_tensor([1, width + 2])).sum(-1)
    index = index + _first_rows(points, (height + 2) * (width + 2)).unsqueeze(-1)
    weights = ((1 - corners) + (2 * corners - 1) * shares).prod(-1, keepdim=True)
    return (rows[index.long()] * weights).sum(-2).permute(0, 3, 1, 2)


def nearest_sample(maps: Tensor, points: Tensor) -> Tensor:
    """Read the nearest cell of each point, the nearest one inside for points outside.

    Takes and gives what `bilinear_sample` does.
    """
    height, width = maps.shape[-2:]
    rows = maps.permute(0, 2, 3, 1).flatten(0, 2)
    column = ((points[..., 0] + 1) * (width / 2)).floor().clamp(0, width - 1)
    line = ((points[..., 1] + 1) * (height / 2)).floor().clamp(0, height - 1)
    index = _first_rows(points, height * width) + line * width + column
    return rows[index.long()].permute(0, 3, 1, 2)


def _first_rows(points: Tensor, size: int) -> Tensor:
    """Return where each map begins among the rows of all, (N, 1, 1); float32 up to 2^24 rows."""
    count = points.shape[0]
    if count * size > 1 << 24:
        raise UsageError(
            f"{count} maps of {size} cells are too many to count in float32; export with "
            "--deformable-attention grid_sample, or for a smaller input"
        )
    return points.new_tensor([index * size for index in range(count)])[:, None, None]


def _gather(maps: Tensor, points: Tensor, **how: Any) -> Tensor:  # noqa: ANN401 - torch's own
    _check(how)
    return bilinear_sample(maps, points)


def _discrete(maps: Tensor, points: Tensor, **how: Any) -> Tensor:  # noqa: ANN401 - torch's own
    _check(how)
    return nearest_sample(maps, points)


def _check(how: dict[str, Any]) -> None:
    wanted = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": False}
    if how != wanted:
        raise UsageError(
            f"a network samples with {how}, deformable attention with {wanted}; export with "
            "--deformable-attention grid_sample"
        )
