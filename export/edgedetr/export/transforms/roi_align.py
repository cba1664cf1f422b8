"""Pool regions without RoiAlign, for builders that have no such layer.

The node reads each bin of a region at a few places between cells and takes their mean. How many
regions, bins and places there are is fixed, so that rows of one Gather are the same numbers. All
levels lie in one table, and a region is read from its own level alone.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from edgedetr.distill.detectors import faster_rcnn
from edgedetr.export.transforms.deformable_attention import check_countable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor
    from torchvision.ops import MultiScaleRoIAlign

    from edgedetr.distill.types import Pyramid
    from edgedetr.export.transforms.deformable_attention import Form


def regions_pooled_by(form: Form) -> AbstractContextManager[None]:
    """Let two-stage networks that run inside pool their regions as a form of sampling has it.

    With ``grid_sample`` by the node RoiAlign, otherwise by Gather. It replaces a function of the
    family while it is open: nothing else should run beside it.
    """
    return nullcontext() if form == "grid_sample" else _by_gather()


@contextmanager
def _by_gather() -> Iterator[None]:
    family: Any = faster_rcnn
    before = family.pooled_by_selection
    family.pooled_by_selection = pooled_by_gather
    try:
        yield
    finally:
        family.pooled_by_selection = before


def pooled_by_gather(pool: MultiScaleRoIAlign, pyramid: Pyramid, boxes: Tensor) -> Tensor:
    """Pool boxes as `edgedetr.distill.detectors.faster_rcnn.pooled_by_selection` does.

    Args:
        pool: How to pool.
        pyramid: The levels.
        boxes: xyxy in pixels, (B, P, 4).

    Returns:
        (B * P, C, bins, bins).
    """
    levels = pyramid.levels[: len(faster_rcnn.POOLED)]
    channels = levels[0].shape[1]
    rows = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels])
    batch, count = boxes.shape[:2]
    rois = boxes.flatten(0, 1)
    shapes = _shapes(levels, boxes)[faster_rcnn.levels_of(pool, rois)]
    height, width, first, scale = shapes.unsqueeze(1).unbind(-1)
    image = torch.arange(batch, device=boxes.device, dtype=boxes.dtype).repeat_interleave(count)
    first = first + image[:, None] * height * width
    x1, y1, x2, y2 = (rois * scale).unsqueeze(1).unbind(-1)
    bins, places = pool.output_size[0], pool.sampling_ratio
    left, right, right_share, inside_x = _samples(x1, x2, width, bins, places)
    top, low, low_share, inside_y = _samples(y1, y2, height, bins, places)
    (a, b), (c, d) = (
        [rows[(first + line * width).unsqueeze(2).add(column.unsqueeze(1)).int()] for column in xs]
        for line, xs in ((top, (left, right)), (low, (left, right)))
    )
    across, down = right_share[:, None, :, None], low_share[:, :, None, None]
    upper, lower = a + (b - a) * across, c + (d - c) * across
    inside = (inside_y.unsqueeze(2) & inside_x.unsqueeze(1)).unsqueeze(-1)
    values = (upper + (lower - upper) * down) * inside.to(upper.dtype)
    means = values.reshape(-1, bins, places, bins, places, channels).mean((2, 4))
    return means.permute(0, 3, 1, 2)


def _shapes(levels: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """Return height, width, first row in the table and cells per pixel of each level, (L, 4)."""
    shapes, first = [], 0
    for index, level in enumerate(levels):
        batch, height, width = (int(level.shape[axis]) for axis in (0, 2, 3))
        shapes.append((height, width, first, 1 / (faster_rcnn.STRIDE << index)))
        first += batch * height * width
    check_countable(first, f"a pyramid of {first} cells is too large")
    return boxes.new_tensor(shapes)


def _samples(
    start: Tensor, end: Tensor, cells: Tensor, bins: int, places: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Place the samples of regions along one axis; a region is at least one cell long.

    Args:
        start: Where each region starts, in cells, (N, 1).
        end: Where it ends, (N, 1).
        cells: How many cells its level has, (N, 1).
        bins: Bins of a region.
        places: Samples of a bin.

    Returns:
        The cell before each sample, the one behind it, the latter's share, and whether the sample
        counts: what lies beyond the map by more than a cell is 0. (N, bins * places) each.
    """
    offsets = (torch.arange(bins * places, device=start.device) + 0.5) / (bins * places)
    found = start + (end - start).clamp(min=1) * offsets
    inside = (found >= -1) & (found <= cells)
    last = cells - 1
    found = torch.minimum(found.clamp(min=0), last)
    before = found.floor()
    return before, torch.minimum(before + 1, last), found - before, inside
