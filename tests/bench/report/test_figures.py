"""The charts of a report."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np

from edgedetr.bench.report.contents import LogRecord, TrainingLog
from edgedetr.bench.report.figures import (
    RECALL,
    latency_charts,
    model_styles,
    precision_recall_charts,
    training_charts,
)

if TYPE_CHECKING:
    from edgedetr.bench.report.contents import ModelReport, Report

LOG = TrainingLog(
    steps=(
        LogRecord(0, {"loss": 4.0, "loss_vfl": 3.0, "lr": 1e-3}),
        LogRecord(1, {"loss": 2.0, "loss_vfl": 1.0, "lr": 1e-3}),
    ),
    evaluations=(LogRecord(1, {"ap": 0.2, "ap50": 0.5}),),
)


def model(name: str) -> ModelReport:
    """A model that finds every Car, where there is no Tram to find."""
    precision = np.stack([np.ones(len(RECALL)), np.full(len(RECALL), np.nan)])
    times = np.array([5.0, 6.0, 7.0])
    curves = SimpleNamespace(precision=precision, latency_ms=times, model_latency_ms=times - 1)
    found = SimpleNamespace(
        name=name, ap=0.4, ap50=0.8, ap50_by_class={"Car": 1.0, "Tram": np.nan}, curves=curves
    )
    return cast("ModelReport", found)


def report(*, teacher: bool = True, training: TrainingLog | None = LOG) -> Report:
    models = (*([model("teacher")] if teacher else []), model("student"))
    first = models[0] if teacher else None
    return cast("Report", SimpleNamespace(models=models, teacher=first, training=training))


def test_the_first_colour_is_the_teachers() -> None:
    assert model_styles(report()) == ["c0", "c1"]
    assert model_styles(report(teacher=False)) == ["c1"]


def test_losses_and_accuracy_are_drawn_with_the_teachers_levels() -> None:
    loss, accuracy = training_charts(report())
    assert [line.name for line in loss.lines] == ["sum", "vfl"]
    assert [line.name for line in accuracy.lines] == [
        "AP",
        "AP50",
        "teacher's AP",
        "teacher's AP50",
    ]
    _, alone = training_charts(report(teacher=False))
    assert [line.name for line in alone.lines] == ["AP", "AP50"]


def test_without_a_log_there_is_no_training_to_draw() -> None:
    assert training_charts(report(training=None)) == []


def test_a_class_without_objects_has_no_chart() -> None:
    (chart,) = precision_recall_charts(report(), ("Car", "Tram"))
    assert chart.title == "Car"
    assert [line.name for line in chart.lines] == ["teacher 1.000", "student 1.000"]


def test_latency_is_drawn_end_to_end_and_of_the_network() -> None:
    whole, network = latency_charts(report())
    assert len(whole.rows) == len(network.rows) == 2
