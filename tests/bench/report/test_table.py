"""The comparison as rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgedetr.bench.report.assemble import DataChoice, write_report
from edgedetr.bench.report.table import as_text, comparison, factor, share

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.bench.report.contents import Report


@pytest.fixture
def report(run: Path) -> Report:
    return write_report(run, DataChoice())


def test_without_a_teacher_nothing_is_compared(report: Report) -> None:
    alone = replace(report, models=report.students[:1])
    assert all(not c.beside_teacher for row in comparison(alone) for c in row.cells)
    assert "agreement" not in as_text(alone)


def test_terminal_table_is_aligned_and_has_a_dash_for_what_is_not_defined(report: Report) -> None:
    lines = as_text(report).splitlines()
    assert len({len(line) for line in lines}) == 1
    cyclist = next(line for line in lines if "Cyclist" in line)
    assert cyclist.split()[-3:] == ["–"] * 3  # noqa: RUF001 - what the table prints


@pytest.mark.parametrize(
    ("value", "reference", "wanted"),
    [
        (2.0, 7.0, "3.5x less"),
        (7.0, 2.0, "3.5x more"),
        (2.0, 2.001, "same"),
        (2.0, 2.08, "1.04x less"),
        (float("nan"), 2.0, ""),
        (0.0, 2.0, ""),
    ],
)
def test_factor(value: float, reference: float, wanted: str) -> None:
    assert factor(value, reference) == wanted


def test_share() -> None:
    assert share(0.45, 0.5) == "90 %"
    assert share(0.0, 0.5) == "0 %"
    assert share(0.5, 0.0) == ""
