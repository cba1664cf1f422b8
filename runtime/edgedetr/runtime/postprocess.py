"""Turn the network's outputs into detections, without non-maximum suppression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedetr.runtime.decode import NO_SCORE
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.spec import ModelSpec


def postprocess(
    logits: NDArray[np.float32],
    boxes: NDArray[np.float32],
    place: Placement,
    spec: ModelSpec,
    threshold: float,
) -> Detections:
    """Keep the best (query, class) pairs of one image.

    As in RT-DETR every pair competes on its own: one query may become several detections, of
    different classes and the same box. Pairs of equal logits keep the order of queries, then
    classes. A box without area inside the source image is no detection, nor is a
    class that a query with one label does not name.

    Args:
        logits: Class logits, (Q, K).
        boxes: cxcywh as a fraction of the network's input, (Q, 4).
        place: Where the image lies in that input.
        spec: Names the number of detections to keep, ``max_detections``.
        threshold: Lowest score that counts, in [0, 1].

    Returns:
        Detections in source pixels, best first. They share no memory with the arguments.

    Raises:
        ArtifactError: If outputs of the network are not finite.
    """
    _refuse_non_finite("logits", logits)
    _refuse_non_finite("boxes", boxes)
    flat = logits.reshape(-1)
    best = _best(flat, spec.max_detections)
    scores = _sigmoid(flat[best])
    queries, labels = np.divmod(best, logits.shape[1])
    corners = place.to_source(boxes[queries])
    keep = (scores >= threshold) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
    if spec.labels_name:
        keep &= flat[best] > NO_SCORE
    return Detections(corners[keep], scores[keep], labels[keep])


def _best(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the indices of the ``count`` largest values, largest first, ties by index."""
    if count < len(values):
        chosen = np.flatnonzero(values >= np.partition(values, -count)[-count])
    else:
        chosen = np.arange(len(values))
    return chosen[np.argsort(-values[chosen], kind="stable")[:count]].astype(np.int64)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)) without overflow at either end."""
    small = np.exp(-np.abs(logits))
    scores: NDArray[np.float32] = np.where(logits >= 0, np.float32(1), small) / (1 + small)
    return scores


def _refuse_non_finite(name: str, values: NDArray[np.float32]) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        raise ArtifactError(
            f"{(~finite).sum()} of the model's {values.size} {name} are not finite; its file is "
            "damaged or of too little precision: export it again"
        )
