"""Slices and errors as rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgedetr.bench.report.assemble import DataChoice, write_report
from edgedetr.bench.report.slice_table import differences, error_rows, slice_rows

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.bench.report.contents import Report


@pytest.fixture
def report(run: Path) -> Report:
    return write_report(run, DataChoice())


def test_every_slice_with_objects_is_a_row(report: Report) -> None:
    rows = {row.label: row for row in slice_rows(report)}
    assert rows["class: Car"].objects == 4
    assert [c.ap50 for c in rows["class: Pedestrian"].cells] == ["1.000", "0.000", "0.000"]
    assert [c.missed for c in rows["all"].cells] == ["0 %", "50 %", "50 %"]
    assert [c.change for c in rows["all"].cells] == ["", *["+50 (+50 to +50)"] * 2]
    # the teacher finds eight objects, the student four of these
    assert [c.agreement for c in rows["all"].cells] == ["", "0.67", "0.67"]
    assert "class: Cyclist" not in rows


def test_every_kind_of_error_is_a_row(report: Report) -> None:
    rows = {row.label: [c.text for c in row.cells] for row in error_rows(report)}
    assert rows["found"] == ["8", "4", "4"]
    assert rows["missed"] == ["0", "4", "4"]
    assert rows["wrong class"] == ["0", "0", "0"]


def test_students_are_set_beside_the_teacher(report: Report) -> None:
    wanted = "-0.500 (95 % interval -0.500 to -0.500)"
    assert differences(report) == [f"student: {wanted}", f"student.int8: {wanted}"]
    alone = [replace(m, ap50_to_teacher=None) for m in report.models]
    assert differences(replace(report, models=tuple(alone))) == []
