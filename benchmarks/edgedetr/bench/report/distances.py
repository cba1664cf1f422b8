"""How far away the labelled objects are, where KITTI's labels say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedetr.distill.labels.kitti_files import read_labels

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.distill.data import Truth

_NEAR_PX = 1.0
"""A label's box is that of the truth, cut at the image's edge: one side at least is the same."""


def distances(
    labels: Sequence[str | os.PathLike[str]], truths: Sequence[Truth], class_names: Sequence[str]
) -> NDArray[np.float64] | None:
    """Return how far each object is in front of the camera, in metres, (O,); NaN where unknown.

    Args:
        labels: KITTI label file of each frame.
        truths: The labels of each frame, which have no distance.
        class_names: The names behind the truths' labels.

    Returns:
        The distances, frame after frame; None where no label has one.

    Raises:
        DataError: If a label file is missing or malformed.
    """
    found = [
        _of_frame(path, truth, class_names) for path, truth in zip(labels, truths, strict=True)
    ]
    metres = np.concatenate([np.zeros(0), *found])
    return None if np.isnan(metres).all() else metres


def _of_frame(
    path: str | os.PathLike[str], truth: Truth, class_names: Sequence[str]
) -> NDArray[np.float64]:
    """Give each object the distance of the label of its class whose box is nearest."""
    rows = read_labels(path)
    depth = np.where(rows.location[:, 2] > 0, rows.location[:, 2], np.nan)
    metres = np.full(len(truth.labels), np.nan)
    for place, (box, label) in enumerate(zip(truth.boxes, truth.labels.tolist(), strict=True)):
        own = np.flatnonzero(rows.types == class_names[label])
        if len(own):
            apart = np.abs(rows.boxes[own] - box)
            nearest = int(apart.sum(1).argmin())
            if apart[nearest].min() < _NEAR_PX:
                metres[place] = depth[own[nearest]]
    return metres
