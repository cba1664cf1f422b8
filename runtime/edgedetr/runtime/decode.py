"""Decode the outputs of a graph, in the convention of its spec, into logits and boxes.

Everything behind a session, and all that compares models, knows one convention: logits (B, Q, K)
whose sigmoid is the score, and boxes (B, Q, 4), cxcywh in fractions of the network's input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec

NO_SCORE = np.finfo(np.float32).min
"""The logit of a class that a query does not name; such a pair is never a detection."""
SCORE_ERROR = 0.01
"""How far beyond [0, 1] a score may lie: FP16 and INT8 round."""

_LEAST, _MOST = np.float32(np.finfo(np.float32).tiny), np.float32(1 - 2**-24)


def decode(
    outputs: Sequence[NDArray[Any]], spec: ModelSpec
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return logits (B, Q, K) and boxes (B, Q, 4), cxcywh in fractions of the network's input.

    Args:
        outputs: Of the model, in the order of ``spec.output_names``.
        spec: How to read it. Where that is the default, the outputs themselves are returned.

    Raises:
        ArtifactError: If scores lie outside [0, 1] or labels name no class.
    """
    if spec.is_plain:
        return outputs[0], outputs[1]
    if spec.fused:
        boxes, scores = outputs[0][..., :4], outputs[0][..., 4:]
    else:
        scores, boxes = outputs[:2]
    logits = _logits(scores, spec)
    if spec.labels_name:
        logits = _by_label(logits, outputs[2], len(spec.class_names))
    elif spec.no_object is not None:
        logits = np.delete(logits, spec.no_object, axis=-1)
    return logits, _cxcywh(boxes, spec)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _logits(values: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32]:
    """Return logits whose sigmoid is the score of each class."""
    if spec.activation == "sigmoid_logits":
        return values
    scores = softmax(values) if spec.activation == "softmax_logits" else values
    if scores.min() < -SCORE_ERROR or scores.max() > 1 + SCORE_ERROR:
        raise ArtifactError(
            f"the model outputs scores from {scores.min():.3g} to {scores.max():.3g}, and "
            f"its spec says that they passed a {spec.activation}; are they logits? Then set "
            f'activation = "{spec.activation}_logits"'
        )
    scores = np.clip(scores, _LEAST, _MOST)
    logits: NDArray[np.float32] = np.log(scores) - np.log1p(-scores)
    return logits


def _by_label(
    logits: NDArray[np.float32], labels: NDArray[Any], classes: int
) -> NDArray[np.float32]:
    """Spread the one logit of each query, (B, Q), over the classes, (B, Q, K)."""
    lowest, highest = labels.min(), labels.max()
    if lowest < 0 or highest >= classes:
        raise ArtifactError(
            f"the model outputs labels from {lowest} to {highest}, and its spec has "
            f"{classes} class_names, so 0 to {classes - 1}; name every class that it was trained on"
        )
    spread = np.full((*logits.shape, classes), NO_SCORE)
    np.put_along_axis(spread, labels[..., None].astype(np.int64), logits[..., None], axis=-1)
    return spread


def _cxcywh(boxes: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32]:
    """Return boxes as centre and size, in fractions."""
    if spec.box_unit == "pixels":
        height, width = spec.input_hw
        boxes = np.divide(boxes, np.array([width, height, width, height], np.float32))
    if spec.box_format == "xyxy":
        low, high = boxes[..., :2], boxes[..., 2:]
        boxes = np.concatenate([(low + high) * np.float32(0.5), high - low], axis=-1)
    return boxes
