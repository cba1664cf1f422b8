"""Frames with the labels and what each model found, as JPEG inside the page with boxes above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.bench.report.agreement import MIN_SCORE, above, pair
from edgedetr.pages.pictures import jpeg_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.bench.report.contents import ModelReport
    from edgedetr.distill.data import Dataset, Truth
    from edgedetr.runtime.types import Detections

MAX_PICTURES = 8
SURE_SCORE = 0.5
"""Detections below it are drawn faintly and without text, so that a picture stays legible."""


@dataclass(frozen=True)
class DrawnBox:
    """A box in source pixels and what stands beside it; ``sure`` ones are drawn boldly."""

    x: float
    y: float
    width: float
    height: float
    text: str
    sure: bool = True


@dataclass(frozen=True)
class Layer:
    """What one model found, or the labels, in one frame.

    Attributes:
        name: Of the model, or ``labels``.
        style: CSS class that gives the colour.
        boxes: In source pixels.
        below: Whether texts stand below the boxes, so that two layers' texts keep apart.
    """

    name: str
    style: str
    boxes: tuple[DrawnBox, ...]
    below: bool


@dataclass(frozen=True)
class Picture:
    """One frame.

    Attributes:
        name: Of the frame.
        uri: The image, JPEG as a data URI.
        width: Of the source image, in pixels.
        height: Of the source image, in pixels.
        layers: From back to front.
        caption: What is to be seen, in words.
    """

    name: str
    uri: str
    width: int
    height: int
    layers: tuple[Layer, ...]
    caption: str


def chosen_frames(count: int) -> list[int]:
    """Choose frames evenly over a split, first and last among them: none is picked for its looks.

    >>> chosen_frames(15)
    [0, 2, 4, 6, 8, 10, 12, 14]
    """
    places = np.linspace(0, count - 1, min(MAX_PICTURES, count)).round().astype(int)
    chosen: list[int] = places.tolist()
    return chosen


def draw_frames(
    dataset: Dataset, frames: int, models: Sequence[ModelReport], styles: Sequence[str]
) -> list[Picture]:
    """Make the pictures.

    Args:
        dataset: The split.
        frames: How many of its first frames the models have seen.
        models: The models, teacher first where there is one.
        styles: CSS class of each model.
    """
    return [_picture(dataset, index, models, styles) for index in chosen_frames(frames)]


def _picture(
    dataset: Dataset, index: int, models: Sequence[ModelReport], styles: Sequence[str]
) -> Picture:
    sample = dataset[index]
    height, width = sample.frame.image.shape[:2]
    found = [above(m.curves.detections[index], MIN_SCORE) for m in models]
    names = dataset.class_names
    layers = [
        Layer(model.name, style, _boxes(detections, names), below=place > 0)
        for place, (model, style, detections) in enumerate(zip(models, styles, found, strict=True))
    ]
    layers.append(_truth_layer(sample.truth, names))
    return Picture(
        name=sample.frame.frame_id,
        uri=jpeg_uri(sample.frame.image),
        width=width,
        height=height,
        layers=tuple(layers),
        caption=_caption(sample.truth, models, found),
    )


def _truth_layer(truth: Truth, names: Sequence[str]) -> Layer:
    boxes = [
        drawn_box(corners, names[int(label)])
        for corners, label in zip(truth.boxes.tolist(), truth.labels.tolist(), strict=True)
    ]
    return Layer("labels", "truth", tuple(boxes), below=False)


def _boxes(found: Detections, names: Sequence[str]) -> tuple[DrawnBox, ...]:
    rows = zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    return tuple(
        drawn_box(corners, f"{names[label]} {score:.2f}", sure=score >= SURE_SCORE)
        for corners, label, score in rows
    )


def drawn_box(corners: Sequence[float], text: str, *, sure: bool = True) -> DrawnBox:
    """Lay out a box of corners in source pixels, to a tenth of a pixel."""
    x0, y0, x1, y1 = (round(v, 1) for v in corners)
    return DrawnBox(x0, y0, round(x1 - x0, 1), round(y1 - y0, 1), text, sure)


def _caption(truth: Truth, models: Sequence[ModelReport], found: Sequence[Detections]) -> str:
    """Count the objects, what each model found, and how much of it the first model found too."""
    parts = [f"{len(truth.labels)} labelled"]
    for place, (model, detections) in enumerate(zip(models, found, strict=True)):
        shared = f", {len(pair(detections, found[0]))} as {models[0].name}" if place else ""
        parts.append(f"{model.name} {len(detections)}{shared}")
    return "; ".join(parts)
