"""Slices, error kinds and differences of a report as rows of text, one model a column."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from edgedetr.bench.report.error_kinds import ErrorKinds
from edgedetr.bench.report.table import NOT_MEASURED, Cell, ModelsRow

if TYPE_CHECKING:
    from edgedetr.bench.report.contents import Report
    from edgedetr.bench.report.slices import Slice


@dataclass(frozen=True)
class SliceCell:
    """What one model reaches in a slice.

    Attributes:
        ap50: AP at IoU 0.5.
        missed: Share of the objects that it misses.
        change: How many points more than the teacher, with the interval; empty without a teacher.
        agreement: With the teacher; empty for the teacher, and where there is none.
    """

    ap50: str
    missed: str
    change: str
    agreement: str


@dataclass(frozen=True)
class SliceRow:
    """One slice: what it is, how many objects it has, and a cell for each model."""

    label: str
    objects: int
    cells: tuple[SliceCell, ...]


def slice_rows(report: Report) -> list[SliceRow]:
    """Return a row for each slice that has an object."""
    rows = []
    for parts in zip(*(m.slices for m in report.models), strict=True):
        first = parts[0]
        if first.objects:
            label = first.name if first.kind == "all" else f"{first.kind}: {first.name}"
            pairs = zip(parts, report.models, strict=True)
            cells = tuple(_cell(part, model is report.teacher) for part, model in pairs)
            rows.append(SliceRow(label, first.objects, cells))
    return rows


def _cell(part: Slice, is_teacher: bool) -> SliceCell:
    known = not is_teacher and not math.isnan(part.agreement)
    agreement = f"{part.agreement:.2f}" if known else ""
    change, change_text = part.missed_to_teacher, ""
    if change:
        points = [f"{100 * value:+.0f}" for value in (change.difference, change.low, change.high)]
        change_text = "{} ({} to {})".format(*points)
    missed = f"{100 * part.miss_rate:.0f} %"
    return SliceCell(_number(part.ap50), missed, change_text, agreement)


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
