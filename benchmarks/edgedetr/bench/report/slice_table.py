"""Slices, error kinds and differences of a report as rows of text, one model a column."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING

from edgedetr.bench.report.error_kinds import ErrorKinds
from edgedetr.bench.report.table import NOT_MEASURED, Cell, ModelsRow

if TYPE_CHECKING:
    from edgedetr.bench.report.contents import Report


def slice_rows(report: Report) -> list[ModelsRow]:
    """Return a row for each slice that has an object: AP50, and beside it the miss rate."""
    rows = []
    for parts in zip(*(m.slices for m in report.models), strict=True):
        first = parts[0]
        if first.objects:
            label = first.name if first.kind == "all" else f"{first.kind}: {first.name}"
            cells = tuple(Cell(_number(p.ap50), f"{100 * p.miss_rate:.0f} %") for p in parts)
            rows.append(ModelsRow(f"{first.objects}", label, cells))
    return rows


def error_rows(report: Report) -> list[ModelsRow]:
    """Return a row for each kind of error, with its count for each model."""
    rows = []
    for field in fields(ErrorKinds):
        values = [getattr(model.errors, field.name) for model in report.models]
        digits = 3 if field.name == "score" else 0
        cells = tuple(Cell(f"{value:.{digits}f}") for value in values)
        rows.append(ModelsRow("", field.name.replace("_", " "), cells))
    return rows


def differences(report: Report) -> list[str]:
    """Return how far each student's AP50 is from the teacher's, a sentence each."""
    found = [(m.name, m.ap50_to_teacher) for m in report.models if m.ap50_to_teacher]
    return [
        f"{name}: {d.difference:+.3f} (95 % interval {d.low:+.3f} to {d.high:+.3f})"
        for name, d in found
    ]


def _number(value: float) -> str:
    return NOT_MEASURED if math.isnan(value) else f"{value:.3f}"
