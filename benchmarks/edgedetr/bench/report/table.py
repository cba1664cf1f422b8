"""The comparison as rows: one figure a row, one model a column, for page and terminal alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedetr.bench.report.contents import ModelReport, Report

NOT_MEASURED = "–"  # noqa: RUF001 - a dash reads better than a minus where nothing was measured


@dataclass(frozen=True)
class Cell:
    """A figure, and how it stands to the teacher's: ``"97 %"``; empty for the teacher itself."""

    text: str
    beside_teacher: str = ""


@dataclass(frozen=True)
class ModelsRow:
    """One figure of every model.

    Attributes:
        group: What it is about; rows of a group stand together.
        label: What it is, with its unit.
        cells: One a model.
    """

    group: str
    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class _Figure:
    """How to read, write and compare one figure; ``higher_is_better`` is shown as a share."""

    group: str
    label: str
    read: Callable[[ModelReport], float]
    digits: int = 2
    higher_is_better: bool = False


def comparison(report: Report) -> list[ModelsRow]:
    """Return the rows of the comparison."""
    models, teacher = report.models, report.teacher
    rows = [
        ModelsRow("", "precision", tuple(Cell(m.precision) for m in models)),
        ModelsRow("", "run by", tuple(Cell(m.ran_on.partition(",")[0]) for m in models)),
    ]
    for figure in _figures(report):
        reference = figure.read(teacher) if teacher else math.nan
        cells = []
        for model in models:
            value = figure.read(model)
            beside = "" if model is teacher else _beside(value, reference, figure)
            cells.append(Cell(_number(value, figure.digits), beside))
        rows.append(ModelsRow(figure.group, figure.label, tuple(cells)))
    return rows


def as_text(report: Report) -> str:
    """Lay it out for a terminal: figures, and in brackets their ratio to the teacher's."""
    lines = [["", *(m.name for m in report.models)]]
    for row in comparison(report):
        cells = [
            f"{c.text} ({c.beside_teacher})" if c.beside_teacher else c.text for c in row.cells
        ]
        lines.append([f"{row.group} {row.label}".strip(), *cells])
    label_width, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join([label.ljust(label_width), *map(str.rjust, cells, widths)])
        for label, *cells in lines
    )


def factor(value: float, reference: float) -> str:
    """Return how many times smaller or greater a value is than the reference.

    >>> factor(2.0, 7.0), factor(7.0, 2.0)
    ('3.5x less', '3.5x more')
    """
    if not _usable(value) or not _usable(reference):
        return ""
    ratio = reference / value
    if 0.995 <= ratio < 1.005:
        return "same"
    times = max(ratio, 1 / ratio)
    return f"{times:.{1 if times >= 2 else 2}f}x {'less' if ratio > 1 else 'more'}"


def share(value: float, reference: float) -> str:
    """Return a value as a share of the reference.

    >>> share(0.45, 0.5)
    '90 %'
    """
    if not math.isfinite(value) or not _usable(reference):
        return ""
    return f"{100 * value / reference:.0f} %"


def _figures(report: Report) -> list[_Figure]:
    figures = [
        _Figure("size", "parameters, M", lambda m: m.params_m),
        _Figure("size", "GFLOPs a frame", lambda m: m.gflops),
        _Figure("size", "file, MiB", lambda m: m.file_mib),
        _Figure("COCO", "AP", lambda m: m.ap, 3, higher_is_better=True),
        _Figure("COCO", "AP50", lambda m: m.ap50, 3, higher_is_better=True),
    ]
    figures += [
        _Figure("KITTI AP40 moderate", f"{name}, %", _kitti(name), 1, higher_is_better=True)
        for name in report.models[0].kitti_ap40_moderate or {}
    ]
    figures += [
        _Figure(group, f"{percentile}, ms", _latency(field, f"{percentile}_ms"))
        for group, field in (("end to end", "latency"), ("model only", "model_latency"))
        for percentile in ("p50", "p90", "p99")
    ]
    figures.append(_Figure("scores", "calibration error", _calibration_error, 3))
    if report.teacher:
        figures.append(_Figure("agreement", "with the teacher, F1", _agreement, 3))
    return figures


def _kitti(name: str) -> Callable[[ModelReport], float]:
    return lambda model: (model.kitti_ap40_moderate or {}).get(name, math.nan)


def _agreement(model: ModelReport) -> float:
    return math.nan if model.agreement_with_teacher is None else model.agreement_with_teacher


def _calibration_error(model: ModelReport) -> float:
    """Return the expected calibration error over all classes."""
    return next((part.ece for part in model.reliability if part.name == "all"), math.nan)


def _latency(field: str, percentile: str) -> Callable[[ModelReport], float]:
    return lambda model: float(getattr(getattr(model, field), percentile))


def _beside(value: float, reference: float, figure: _Figure) -> str:
    if figure.group == "agreement":
        return ""
    return share(value, reference) if figure.higher_is_better else factor(value, reference)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else NOT_MEASURED


def _usable(value: float) -> bool:
    return math.isfinite(value) and value > 0
