"""The worst frames with each shown model's errors: what it misses, and what it finds in nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.bench.report.agreement import above
from edgedetr.bench.report.figures import model_styles
from edgedetr.bench.report.matches import NONE, match
from edgedetr.bench.report.pictures import Layer, Picture, drawn_box
from edgedetr.pages.pictures import jpeg_uri

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.bench.report.contents import ModelReport, Report
    from edgedetr.bench.report.pictures import DrawnBox
    from edgedetr.distill.data import Dataset, Truth
    from edgedetr.runtime.types import Detections


def draw_errors(dataset: Dataset, report: Report) -> list[list[Picture]]:
    """Draw the report's worst frames, once for the teacher, if there is one, and for the student.

    Args:
        dataset: The split.
        report: The contents; the student is its last model.
    """
    styles = dict(zip((m.name for m in report.models), model_styles(report), strict=True))
    last = report.models[-1]
    shown = [report.teacher, last] if report.teacher and report.teacher is not last else [last]
    pictures = []
    for worst in report.worst_frames:
        frame = dataset[worst.index].frame
        uri = jpeg_uri(frame.image)
        height, width = frame.image.shape[:2]
        pictures.append(
            [
                Picture(
                    name=f"{worst.frame} {model.name}",
                    uri=uri,
                    width=width,
                    height=height,
                    layers=_layers(dataset, worst.index, model, styles[model.name]),
                    caption=f"misses {worst.missed[model.name]}, "
                    f"{worst.false[model.name]} of nothing",
                )
                for model in shown
            ]
        )
    return pictures


def _layers(dataset: Dataset, index: int, model: ModelReport, style: str) -> tuple[Layer, ...]:
    """Return the labels and detections of a frame, apart by what became of them."""
    truth = dataset.truths[index]
    kept = above(model.curves.detections[index], model.curves.errors.score)
    own = match([truth], [kept])
    hits, wrong = own.found != NONE, (own.found == NONE) & ~own.is_neutral
    seen = set(own.found[hits].tolist())
    missed = [i for i in range(len(truth.labels)) if i not in seen]
    names = dataset.class_names
    return (
        Layer(model.name, style, _found(kept, own.row[hits], names, sure=False), below=False),
        Layer("of nothing", "wrong", _found(kept, own.row[wrong], names, sure=True), below=True),
        Layer("labels", "truth", _labels(truth, sorted(seen), names), below=False),
        Layer("missed", "missed", _labels(truth, missed, names), below=False),
    )


def _found(
    kept: Detections, rows: NDArray[np.int64], names: tuple[str, ...], *, sure: bool
) -> tuple[DrawnBox, ...]:
    """Lay out detections; what found an object is faint and without text, as unsure ones are."""
    return tuple(
        drawn_box(
            kept.boxes[i].tolist(), f"{names[kept.labels[i]]} {kept.scores[i]:.2f}", sure=sure
        )
        for i in rows.tolist()
    )


def _labels(truth: Truth, rows: Iterable[int], names: tuple[str, ...]) -> tuple[DrawnBox, ...]:
    return tuple(drawn_box(truth.boxes[i].tolist(), names[truth.labels[i]]) for i in rows)
