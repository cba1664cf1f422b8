"""The charts of a report, out of its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedetr.bench.report.agreement import MIN_SCORE
from edgedetr.pages.charts import LARGE, Series, distribution_chart, line_chart, smooth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.bench.report.contents import LogRecord, Report
    from edgedetr.pages.charts import DistributionChart, LineChart

RECALL = np.linspace(0, 1, 101)
_SMOOTHED_SHARE = 40
"""A loss is averaged over this part of the run, for single steps jump."""
_NO_TERMS = {"loss", "lr", "seconds"}


def model_styles(report: Report) -> list[str]:
    """Return the CSS class of each model; the teacher has the first, whether or not it is there."""
    first = 0 if report.teacher else 1
    return [f"c{first + i}" for i in range(len(report.models))]


def training_charts(report: Report) -> list[LineChart]:
    """Draw the loss with its terms, and the accuracy, over the steps; nothing without a log."""
    if report.training is None:
        return []
    steps, evaluations = report.training.steps, report.training.evaluations
    charts = [
        line_chart(
            "Loss and its terms", _loss_series(steps), ("step", "loss"), size=LARGE, log_y=True
        )
    ]
    if evaluations:
        names = ("ap", "AP", "c1"), ("ap50", "AP50", "c2")
        series = [Series(text, style, *_column(evaluations, key)) for key, text, style in names]
        charts.append(
            line_chart(
                "Accuracy on the validation split",
                [*series, *_teacher_levels(report, evaluations)],
                ("step", "COCO AP"),
                (0.0, 1.0),
                size=LARGE,
            )
        )
    return charts


def precision_recall_charts(report: Report, class_names: Sequence[str]) -> list[LineChart]:
    """Draw one chart a class that has objects to find, one line a model."""
    charts = []
    for index, name in enumerate(class_names):
        series = [
            Series(
                f"{model.name} {model.ap50_by_class[name]:.3f}",
                style,
                RECALL,
                model.curves.precision[index],
            )
            for model, style in zip(report.models, model_styles(report), strict=True)
            if not np.isnan(model.curves.precision[index]).any()
        ]
        if series:
            charts.append(line_chart(name, series, ("recall", "precision"), (0.0, 1.0)))
    return charts


def reliability_charts(report: Report) -> list[LineChart]:
    """Draw one chart a class that has sure detections: precision over the score, one line a model.

    A model whose scores can be believed lies on the dashed line.
    """
    charts = []
    ends = np.array([MIN_SCORE, 1.0])
    for index, first in enumerate(report.models[0].reliability):
        series = []
        for model, style in zip(report.models, model_styles(report), strict=True):
            part = model.reliability[index]
            score = np.array([r.score for r in part.ranges])
            precision = np.array([r.precision for r in part.ranges])
            series.append(Series(f"{model.name} {part.ece:.3f}", style, score, precision))
        drawn = [s for s in series if len(s.x)]
        if drawn:
            drawn.append(Series("score = precision", "c7 dashed", ends, ends))
            charts.append(line_chart(first.name, drawn, ("score", "precision"), (0.0, 1.0)))
    return charts


def latency_charts(report: Report) -> list[DistributionChart]:
    """Draw how long the frames took, end to end and in the network alone."""
    styles = model_styles(report)
    named = [(m.name, style, m.curves) for m, style in zip(report.models, styles, strict=True)]
    whole = [(name, style, curves.latency_ms) for name, style, curves in named]
    network = [(name, style, curves.model_latency_ms) for name, style, curves in named]
    return [
        distribution_chart("End to end: from uint8 frame to detections", "ms a frame", whole),
        distribution_chart("The network alone", "ms a frame", network),
    ]


def _loss_series(steps: Sequence[LogRecord]) -> list[Series]:
    names = ["loss", *sorted({k for record in steps for k in record.figures} - _NO_TERMS)]
    series = []
    for index, name in enumerate(names):
        x, y = _column(steps, name)
        if len(x):
            style = f"c{index % 8}" + (" dashed" if index >= 8 else "")
            label = "sum" if name == "loss" else name.removeprefix("loss_")
            series.append(Series(label, style, x, smooth(y, len(y) // _SMOOTHED_SHARE or 1)))
    return series


def _teacher_levels(report: Report, evaluations: Sequence[LogRecord]) -> list[Series]:
    if report.teacher is None:
        return []
    x = np.array([0.0, evaluations[-1].step])
    levels = ("AP", "c1", report.teacher.ap), ("AP50", "c2", report.teacher.ap50)
    return [
        Series(f"teacher's {text}", f"{style} dashed", x, np.full(2, level))
        for text, style, level in levels
    ]


def _column(records: Sequence[LogRecord], name: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [(r.step, r.figures[name]) for r in records if name in r.figures]
    table = np.array(rows, np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
