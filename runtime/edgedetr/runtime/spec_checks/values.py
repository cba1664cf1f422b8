"""Check the numbers that a model outputs against its spec.

Types and shapes do not distinguish logits from scores, fractions from pixels or classes from no
object; decoded wrongly, they give hundreds of detections or none. So a model is run once on a
synthetic image, and numbers that contradict its spec are refused with the key to change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.runtime.decode import SCORE_ERROR, softmax
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec

MOST_OUTSIDE = 1.0
"""How far outside the input a box may reach, as a fraction of it, before its unit is doubted."""
LEAST_QUERIES = 10
"""With fewer, how often something holds says little."""
NEARLY_ALL = 0.9
"""The share of queries that makes a rule."""
MOST_LOGIT = 30.0
"""Its sigmoid is 1 in float32 and far beyond; no loss of training rewards more."""
BEYOND = 0.02
"""How far pixels may reach beyond the input where y before x would fit, as a fraction."""
SURE = 0.9
"""How much of a query's softmax no object takes where it is taken for the logit of a sigmoid."""


def example_input(spec: ModelSpec, batch: int = 1) -> NDArray[np.float32]:
    """Make a network input, float32 (B, 3, H, W), of grey tiles under noise, without OpenCV.

    All images of the batch are the same.
    """
    height, width = spec.input_hw
    y, x, channel = np.arange(height)[:, None], np.arange(width), np.arange(3)[:, None, None]
    tiles = (y // 24 * 89 + x // 24 * 57 + channel * 31) % 192
    noise = (y * 37 + x * 101 + y * x * 13) % 64
    mean, std = (np.array(values)[:, None, None] for values in (spec.mean, spec.std))
    image = ((tiles + noise) / 255 - mean) / std
    return np.repeat(image[None].astype(np.float32), batch, axis=0)


def check_values(outputs: Sequence[NDArray[Any]], spec: ModelSpec, path: Path | str) -> None:
    """Stop where numbers contradict the spec; numbers that are not finite are not looked at.

    Args:
        outputs: Of the model, in the order of ``spec.output_names``; the first image of a batch is
            looked at, since all are the same here.
        spec: How to decode them.
        path: The artifact, for the message.

    Raises:
        ArtifactError: If they do.
    """
    if not all(np.isfinite(values).all() and values.size for values in outputs):
        return
    outputs = [values[:1] for values in outputs]
    if spec.fused:
        boxes, scores = outputs[0][..., :4], outputs[0][..., 4:]
    else:
        scores, boxes = outputs[:2]
    problem = _fused_problem(scores, spec) or _swapped(scores, boxes)
    problem = problem or _score_problem(scores, spec) or _box_problem(boxes, spec)
    if spec.labels_name and not problem:
        problem = _label_problem(outputs[2], spec)
    if problem:
        raise ArtifactError(f"{path}: {problem}")


def column_of_no_object(values: NDArray[np.float32], activation: str) -> int | None:
    """Return the column that surely wins nearly every query, with scores above a half, if any.

    Args:
        values: Logits or scores, (B, Q, K).
        activation: What makes scores of them, as in a spec.
    """
    rows = values.reshape(-1, values.shape[-1])
    if len(rows) < LEAST_QUERIES or rows.shape[1] < 2:
        return None
    shares = softmax(rows) if activation.endswith("_logits") else rows
    best = rows.argmax(axis=1)
    column = int(np.bincount(best).argmax())
    wins = (best == column) & (shares[:, column] > 0.5)
    if activation == "sigmoid_logits":  # what is untrained is sure of nothing
        wins &= (rows[:, column] > 0) & (shares[:, column] > SURE)
    return column if wins.mean() >= NEARLY_ALL else None


def rows_sum_to_one(values: NDArray[np.float32]) -> bool:
    """Return whether the numbers of each query are shares of one."""
    within = values.min() >= -SCORE_ERROR and values.shape[-1] > 1
    return bool(within and np.abs(values.sum(axis=-1) - 1).max() <= SCORE_ERROR)


def within_unit(values: NDArray[np.float32]) -> bool:
    """Return whether all numbers lie in [0, 1] and are not all the same."""
    low, high = float(values.min()), float(values.max())
    return low < high and low >= 0 and high <= 1


def ordered_share(boxes: NDArray[np.float32]) -> float:
    """Return for which share of boxes the last two numbers are larger: all of them as corners."""
    rows = boxes.reshape(-1, 4)
    return float((rows[:, 2:] > rows[:, :2]).all(axis=1).mean())


def looks_like_corners(boxes: NDArray[np.float32]) -> bool | None:
    """Return whether boxes are two corners rather than centre and size; None where it is open."""
    share = ordered_share(boxes)
    if boxes.size < 4 * LEAST_QUERIES or 1 - NEARLY_ALL <= share < 1:
        return None
    return share == 1


def _fused_problem(scores: NDArray[np.float32], spec: ModelSpec) -> str:
    if not spec.fused or not holds_labels(scores):
        return ""
    return (
        f"the columns of {spec.logits_name} are a box, a score and a label, as models write that "
        "select their detections themselves; export it with a score for each class"
    )


def _swapped(scores: NDArray[np.float32], boxes: NDArray[np.float32]) -> str:
    is_box = scores.shape == boxes.shape and within_unit(scores)
    return f"boxes reach {boxes.min():.3g}; {_SWAPPED}" if is_box and boxes.min() < -0.5 else ""


def holds_labels(scores: NDArray[np.float32]) -> bool:
    """Return whether two columns are a score and the index of a class."""
    score, label = scores[..., 0], scores[..., -1]
    is_index = bool((label == np.round(label)).all() and label.min() >= 0 and label.max() > 1)
    return scores.shape[-1] == 2 and within_unit(score) and is_index


def _score_problem(scores: NDArray[np.float32], spec: ModelSpec) -> str:
    low, high = float(scores.min()), float(scores.max())
    span = f"{spec.logits_name} lie between {low:.3g} and {high:.3g}"
    shares = scores.ndim == 3 and rows_sum_to_one(scores)
    if spec.activation.endswith("_logits"):
        if not within_unit(scores):
            problem = _percent_problem(scores, spec, span) or _log_problem(scores, spec)
            return problem or _no_object_problem(scores, spec)
        passed = "softmax" if shares else "sigmoid"
        adds = ", and those of a query add up to 1" if shares else ""
        return (
            f"{span}{adds}, as scores that have passed a {passed}, wanted logits; set "
            f'activation = "{passed}" or read the tensor before it'
        )
    if low < -SCORE_ERROR or high > 1 + SCORE_ERROR:
        passed = f"that have passed a {spec.activation}"
        fix = _PERCENT if low >= 0 else f'set activation = "{spec.activation}_logits"'
        return f"{span}, wanted scores in [0, 1] {passed}; {fix}"
    if spec.activation == "softmax" and not shares:
        return (
            f"{spec.logits_name} of a query do not add up to 1, so they have not passed a softmax; "
            'set activation = "sigmoid"'
        )
    if spec.activation == "sigmoid" and shares and within_unit(scores):
        return (
            f'{spec.logits_name} of each query add up to 1; set activation = "softmax", and '
            "no_object to the column that stands for none"
        )
    return _no_object_problem(scores, spec)


def _percent_problem(scores: NDArray[np.float32], spec: ModelSpec, span: str) -> str:
    """Tell shares of a hundred from logits.

    A softmax does not mind what is added to its logits, so only their sums tell there. A sigmoid
    scores whatever is not negative a half or more; labels come with the best scores only, which
    may all be that high, but no trained logit is beyond `MOST_LOGIT`.
    """
    low, high = float(scores.min()), float(scores.max())
    if scores.size < LEAST_QUERIES or low < 0 or high <= 1:
        return ""
    if spec.activation == "softmax_logits":
        adds = scores.ndim == 3 and rows_sum_to_one(np.float32(0.01) * scores)
        return f"{span}, and those of a query add up to 100; {_PERCENT}" if adds else ""
    if spec.labels_name and high <= MOST_LOGIT:
        return ""
    zeros = int((scores == 0).sum())
    exact = f", {zeros} of them exactly 0" if zeros else ""
    return (
        f"{span}{exact}: as logits, each of {scores.size} would be a score of a half or more on an "
        f"image without objects; {_PERCENT}"
    )


def _log_problem(scores: NDArray[np.float32], spec: ModelSpec) -> str:
    is_log = scores.max() <= 0 and rows_sum_to_one(np.exp(scores))
    if spec.activation != "sigmoid_logits" or not is_log:
        return ""
    return (
        f"the exponentials of {spec.logits_name} of a query add up to 1, as a log-softmax gives "
        'them; set activation = "softmax_logits"'
    )


def _no_object_problem(scores: NDArray[np.float32], spec: ModelSpec) -> str:
    if spec.labels_name:
        return ""
    column = column_of_no_object(scores, spec.activation)
    said = spec.no_object
    if column is None or (said is not None and said % spec.columns == column):
        return ""
    fix = f"set no_object = {column}"
    if said is None:
        fix += f" and take {spec.class_names[column]!r} out of class_names"
        if spec.activation == "sigmoid_logits":
            fix += ', with activation = "softmax_logits" where it was trained with a softmax'
    return (
        f"column {column} of {spec.logits_name} wins nearly every query of an image without "
        f"objects, so it stands for no object; {fix}"
    )


def _box_problem(boxes: NDArray[np.float32], spec: ModelSpec) -> str:
    low, high = float(boxes.min()), float(boxes.max())
    if spec.box_unit == "fraction" and not -MOST_OUTSIDE <= low <= high <= 1 + MOST_OUTSIDE:
        reach = f"{spec.boxes_name} reach {high if high > 1 + MOST_OUTSIDE else low:.3g}"
        pixels = low >= -MOST_OUTSIDE * max(spec.input_hw)
        unit = f'{reach}, wanted fractions of the input; set box_unit = "pixels"'
        return unit if pixels and high > 1 + MOST_OUTSIDE else f"{reach}; {_SWAPPED}"
    if spec.box_unit == "pixels" and high <= 1 + MOST_OUTSIDE and min(spec.input_hw) > 2:
        return (
            f"{spec.boxes_name} reach {high:.3g}, wanted pixels of the input; set "
            'box_unit = "fraction"'
        )
    if spec.box_unit == "pixels" and high > (1 + MOST_OUTSIDE) * max(spec.input_hw):
        return (
            f"{spec.boxes_name} reach {high:.4g}, and the input has {spec.input_hw[0]} x "
            f"{spec.input_hw[1]} pixels; feed the model the size of its input: [[extra_inputs]]"
        )
    corners = looks_like_corners(boxes)
    if corners is not None and corners != (spec.box_format == "xyxy"):
        found = "xyxy" if corners else "cxcywh"
        return (
            f"{spec.boxes_name} are {_FORMATS[found]} and its spec says {spec.box_format}; set "
            f'box_format = "{found}"'
        )
    return _order_problem(boxes, spec)


def _order_problem(boxes: NDArray[np.float32], spec: ModelSpec) -> str:
    """Tell y before x by pixels that do not fit into the input."""
    if spec.box_unit != "pixels":
        return ""
    (height, width), rows = spec.input_hw, boxes.reshape(-1, 4)
    x, y = float(rows[:, ::2].max()), float(rows[:, 1::2].max())
    fits = x <= width * (1 + BEYOND) and y <= height * (1 + BEYOND)
    if fits or x > height * (1 + BEYOND) or y > width * (1 + BEYOND):
        return ""
    return (
        f"{spec.boxes_name} reach {x:.4g} in x and {y:.4g} in y, and the input is {width} wide and "
        f"{height} high, so y comes before x; swap them inside the graph"
    )


def _label_problem(labels: NDArray[Any], spec: ModelSpec) -> str:
    if labels.min() >= 0 and labels.max() < len(spec.class_names):
        return ""
    return (
        f"{spec.labels_name} lie between {labels.min()} and {labels.max()}, and its spec has "
        f"{len(spec.class_names)} class_names; name every class that it was trained on"
    )


_PERCENT = (
    "are they percentages? Divide by 100 inside the graph and set activation, or read the logits"
)
_FORMATS = {"xyxy": "two corners each", "cxcywh": "no two corners, so centre and size"}
_SWAPPED = (
    "wanted boxes; are logits_name and boxes_name swapped, or is it boxes before their sigmoid?"
)
