"""Boxes as arrays: two formats, overlap and clipping. All functions are vectorised over rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    Boxes = NDArray[np.floating[Any]]


def xyxy_from_cxcywh(boxes: Boxes) -> Boxes:
    """Convert (..., 4) centre-size boxes to corners.

    >>> xyxy_from_cxcywh(np.array([[5.0, 5.0, 4.0, 2.0]])).tolist()
    [[3.0, 4.0, 7.0, 6.0]]
    """
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def cxcywh_from_xyxy(boxes: Boxes) -> Boxes:
    """Convert (..., 4) corner boxes to centre-size.

    >>> cxcywh_from_xyxy(np.array([[3.0, 4.0, 7.0, 6.0]])).tolist()
    [[5.0, 5.0, 4.0, 2.0]]
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def area(boxes: Boxes) -> Boxes:
    """Return the area of (..., 4) corner boxes; inverted boxes have none."""
    size = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    product: Boxes = size[..., 0] * size[..., 1]
    return product


def intersection(a: Boxes, b: Boxes) -> Boxes:
    """Return the (N, M) shared areas of corner boxes (N, 4) and (M, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    size = np.clip(high - low, 0, None)
    product: Boxes = size[..., 0] * size[..., 1]
    return product


def iou(a: Boxes, b: Boxes) -> Boxes:
    """Return the (N, M) intersection over union of corner boxes (N, 4) and (M, 4).

    >>> iou(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
    [[0.333, 0.0]]
    """
    shared = intersection(a, b)
    union = area(a)[:, None] + area(b)[None, :] - shared
    ratio: Boxes = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def clip(boxes: Boxes, hw: tuple[int, int]) -> Boxes:
    """Clip (..., 4) corner boxes to an image of height and width ``hw``."""
    height, width = hw
    limit = np.array([width, height, width, height], boxes.dtype)
    clipped: Boxes = np.clip(boxes, 0, limit)
    return clipped
