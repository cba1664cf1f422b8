"""Features of regions, pooled from one level of a memory or pyramid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchvision.ops import roi_align

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SAMPLES = 2
"""Points that a bin averages along each axis, as in torchvision's Faster R-CNN."""


def region_features(
    level: Tensor,
    boxes: Sequence[Tensor],
    size: int,
    samples: int = SAMPLES,
    *,
    aligned: bool = True,
) -> Tensor:
    """Pool boxes from a level with RoIAlign (He et al., 2017), all images in turn.

    Cell i of a row covers [i, i + 1] / W of the image and its feature lies in the middle
    (``aligned``), so that levels of any stride agree about where a box is.

    Args:
        level: (B, D, H, W).
        boxes: xyxy in [0, 1] of the image, (n, 4) for each of the B images.
        size: Bins along each side.
        samples: Points that a bin averages along each axis.
        aligned: False takes every point half a cell further to the right and down, as the heads of
            torchvision's two-stage detectors do.

    Returns:
        (N, D, size, size), with the level's gradient.
    """
    height, width = level.shape[-2:]
    scale = level.new_tensor([width, height, width, height])
    cells = [b.to(level.dtype) * scale for b in boxes]
    pooled: Tensor = roi_align(level, cells, size, 1.0, samples, aligned=aligned)
    return pooled
