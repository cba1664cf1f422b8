"""How deformable attention reads feature maps in an exported graph: five forms of one operation.

Every family samples its maps by `torch.nn.functional.grid_sample` (bilinear, zeros outside, corners
not aligned), level by level. TensorRT is known to miscompile decoders around the node that it
becomes, so a graph can be exported with other nodes in its place:

``gather``
    The four cells around a point are rows of one Gather, for all levels together, and one product
    of matrices weighs them: the same numbers.
``gather_sum``
    The same rows, weighed by a Mul and a Sum, which builders can fuse with the Gather where a
    product of a matrix and a vector stands apart.
``grid_sample``
    The node itself, as torch traces it.
``plugin``
    The node of TensorRT's own plugin, for networks that have as many points in every level; see
    `edgedetr.graph.sampling_plugin`.
``discrete``
    The nearest cell alone, as RT-DETRv2's discrete sampling has it (Lv et al., 2024, section 3): a
    quarter of the reads, and other numbers. A network that was not trained so loses accuracy.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import torch
from typing_extensions import override

from edgedetr.graph.sampling_plugin import DOMAIN, NAMESPACE, PLUGIN, VERSION
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

Form = Literal["gather", "gather_sum", "grid_sample", "plugin", "discrete"]

_SHARED = "multi_scale_deformable_attention_v2"


@contextmanager
def sampled_by(form: Form, network: nn.Module) -> Iterator[None]:
    """Let a network read its maps in one of the forms.

    The functions of transformers that do it are replaced while this is open: those of RT-DETRv2
    for all its networks.
    """
    replaced = [] if form == "grid_sample" else list(_places(network, form))
    before = [(owner, name, vars(owner).get(name)) for owner, name, _ in replaced]
    try:
        for owner, name, function in replaced:
            setattr(owner, name, function)
        yield
    finally:
        for owner, name, function in before:
            delattr(owner, name) if function is None else setattr(owner, name, function)


def _places(network: nn.Module, form: Form) -> Iterator[tuple[Any, str, Any]]:
    """Yield whose function of which name does the reading, and what takes its place."""
    apart, joined = (partial(f, form=form) for f in (_levels_apart, _levels_joined))
    homes = set()
    for module in network.modules():
        if type(module).__name__ == "MultiScaleDeformableAttention":
            yield module, "forward", apart
        elif hasattr(module, "ms_deformable_attn_core"):
            yield module, "ms_deformable_attn_core", joined
        homes.add(type(module).__module__)
    for name in sorted(homes):
        if hasattr(sys.modules[name], _SHARED):
            yield sys.modules[name], _SHARED, joined


def _levels_apart(
    value: Tensor,
    _shapes: Tensor,
    shapes: Sequence[tuple[int, int]],
    _starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    _step: int,
    *,
    form: Form,
) -> Tensor:
    """Stand in for the function of RT-DETR and Deformable DETR: as many points in every level."""
    counts = [locations.shape[4]] * locations.shape[3]
    locations, weights = locations.flatten(3, 4), weights.flatten(3)
    return sample(value, shapes, locations, weights, counts, form)


def _levels_joined(  # noqa: PLR0913 - transformers calls it with these
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
    counts: Sequence[int],
    method: str = "default",
    *,
    form: Form,
) -> Tensor:
    """Stand in for the function that RT-DETRv2, D-FINE and DEIMv2 share."""
    if method != "default":
        raise UsageError(
            f"this network samples by its own method {method!r}; export it with "
            "--deformable-attention grid_sample"
        )
    return sample(value, shapes, locations, weights, counts, form)


def sample(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
    counts: Sequence[int],
    form: Form = "gather",
) -> Tensor:
    """Read feature maps at points and sum what is read, weighted.

    Args:
        value: Features of every cell of every level, S cells, for each head, (B, S, M, D).
        shapes: Height and width of each level.
        locations: x and y in [0, 1] over each map from edge to edge, (B, Q, M, P, 2).
        weights: (B, Q, M, P).
        counts: How many of the P points lie in each level, in the order of the levels.
        form: With ``discrete`` the nearest cell inside is read alone, otherwise the four around a
            point, of which those outside are 0.

    Returns:
        (B, Q, M * D).

    Raises:
        UsageError: If there are more cells than float32 can count, or for ``plugin`` levels with
            different numbers of points.
    """
    if form == "plugin":
        return _sample_by_plugin(value, shapes, locations, weights, counts)
    batch, cells, heads, depth = value.shape
    maps = batch * heads
    check_countable(maps * cells, f"{maps} maps of {cells} cells are too many")
    starts = list(accumulate((height * width for height, width in shapes), initial=0))

    def each_point(values: Sequence[float]) -> Tensor:
        return locations.new_tensor(
            [v for v, n in zip(values, counts, strict=False) for _ in range(n)]
        )

    widths, heights = (each_point([shape[axis] for shape in shapes]) for axis in (1, 0))
    around = _nearest if form == "discrete" else _neighbours
    columns = around(locations[..., 0], widths)
    lines = around(locations[..., 1], heights)
    # Rows of `value` lie in the order of image, cell and head.
    image = torch.arange(batch).to(locations).reshape(-1, 1, 1, 1) * (cells * heads)
    head = torch.arange(heads).to(locations).reshape(-1, 1)
    first = image + (each_point(starts) * heads + head)
    rows, shares = [], []
    for line, line_share in lines:
        start, line_weight = line * (widths * heads) + first, line_share * weights
        for column, column_share in columns:
            rows.append(start + column * heads)
            shares.append(line_weight * column_share)
    read = value.reshape(-1, depth)[torch.cat(rows, -1).int()]  # half of what int64 moves
    share = torch.cat(shares, -1)
    if form == "gather_sum":
        return (share.unsqueeze(-1) * read).sum(-2).flatten(2)
    return (share.unsqueeze(-2) @ read).flatten(2)


def _sample_by_plugin(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
    counts: Sequence[int],
) -> Tensor:
    """Do what `sample` does as one node of TensorRT's plugin."""
    if len(set(counts)) > 1:
        raise UsageError(
            f"this network samples {', '.join(map(str, counts))} points of its levels, and "
            "TensorRT's plugin wants the same number in each; export it with "
            "--deformable-attention gather, gather_sum or grid_sample"
        )
    sides = [[int(side) for side in shape] for shape in shapes]
    starts = list(accumulate((height * width for height, width in sides), initial=0))[:-1]
    batch, _, heads, depth = value.shape
    by_level = (*weights.shape[:3], len(counts), counts[0])
    read: Tensor = _Plugin.apply(
        value,
        torch.tensor(sides, dtype=torch.int32),
        torch.tensor(starts, dtype=torch.int32),
        locations.reshape(*by_level, 2),
        weights.reshape(by_level),
        *(int(size) for size in (batch, locations.shape[1], heads, depth)),
    )
    return read.flatten(2)


class _Plugin(torch.autograd.Function):
    """TensorRT's plugin: in torch the same numbers by Gather, in a graph its node."""

    @staticmethod
    @override
    def forward(
        ctx: Any,
        value: Tensor,
        sides: Tensor,
        starts: Tensor,
        places: Tensor,
        weights: Tensor,
        *size: int,
    ) -> Tensor:
        levels, points = places.shape[3:5]
        shapes = [(height, width) for height, width in sides.tolist()]
        read = sample(value, shapes, places.flatten(3, 4), weights.flatten(3), [points] * levels)
        return read.reshape(size)

    @staticmethod
    def symbolic(graph: Any, *given: Any) -> Any:  # noqa: ANN401 - torch's exporter calls it
        """Write the node; takes the exporter's graph, and values for what `forward` takes."""
        inputs, size = given[:5], given[5:]
        named = {"plugin_version_s": VERSION, "plugin_namespace_s": NAMESPACE}
        node = graph.op(f"{DOMAIN}::{PLUGIN}", *inputs, **named)
        node.setType(inputs[0].type().with_sizes(list(size)))
        return node


def check_countable(rows: int, too_many: str) -> None:
    """Refuse more rows of a table than float32, in which places are computed, can count.

    Raises:
        UsageError: If there are more; it begins with ``too_many``.
    """
    if rows > 1 << 24:
        raise UsageError(
            f"{too_many} to count in float32; export with --deformable-attention grid_sample, or "
            "for a smaller input"
        )


def _neighbours(place: Tensor, size: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the two cells around a place along one axis, each with its share.

    A cell outside is moved inside and has no share.

    Args:
        place: In [0, 1] from edge to edge.
        size: Number of cells.
    """
    at = torch.minimum((place * size - 0.5).clamp(min=-1), size)
    before = torch.minimum(at.floor(), size - 1)
    share, behind = at - before, before + 1
    return [
        (before.clamp(min=0), torch.minimum(1 - share, behind)),
        (torch.minimum(behind, size - 1), torch.minimum(share, size - behind)),
    ]


def _nearest(place: Tensor, size: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the nearest cell as `_neighbours` returns two."""
    cell = torch.minimum((place * size).floor().clamp(min=0), size - 1)
    return [(cell, torch.ones_like(cell))]
