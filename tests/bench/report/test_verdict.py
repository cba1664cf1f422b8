from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgedetr.bench.report.assemble import DataChoice, write_report
from edgedetr.bench.report.contents import ParityResult, Report
from edgedetr.bench.report.table import as_text, comparison, factor, share
from edgedetr.bench.report.verdict import headline, tiles

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.bench.report.contents import ModelReport


@pytest.fixture
def report(run: Path) -> Report:
    return write_report(run, DataChoice())


def with_latency(model: ModelReport, p50_ms: float) -> ModelReport:
    return replace(model, latency=replace(model.latency, p50_ms=p50_ms))


def test_headline_says_what_was_made(report: Report) -> None:
    text = headline(report)
    assert text.startswith(
        "A d_fine edge-tiny student for 64 x 32 px, distilled from big with clock: 3 epochs on the "
        "train split of "
    )
    config = report.made_by
    assert config is not None
    heir = {**config, "student": {**config["student"], "inherit": True}}
    assert "with clock after taking over a selection of its weights: 3 epochs" in headline(
        replace(report, made_by=heir)
    )
    assert headline(replace(report, made_by=None)).startswith(
        "teacher, student and student.int8, measured on 4 frames of "
    )


def test_tiles_compare_the_last_student_with_the_teacher(report: Report) -> None:
    teacher, student, int8 = report.models
    models = (with_latency(teacher, 30.0), with_latency(student, 10.0), with_latency(int8, 40.0))
    parity, accuracy, speed, size = tiles(replace(report, models=models))
    assert (parity.answer, parity.state) == ("passed", "good")
    assert accuracy.answer == "50 %"
    assert speed.answer == "1.33x slower"
    assert "student: 3.0x faster" in speed.detail
    assert size.answer == f"{100 * int8.file_mib / teacher.file_mib:.0f} %"


@pytest.mark.parametrize(
    ("parity", "answer", "state"),
    [
        ((), "not checked", "plain"),
        (
            (ParityResult("a", True, "x", "", {}), ParityResult("b", False, "y", "", {})),
            "failed",
            "bad",
        ),
    ],
)
def test_parity_is_never_called_passed_without_a_check(
    report: Report, parity: tuple[ParityResult, ...], answer: str, state: str
) -> None:
    tile = tiles(replace(report, parity=parity))[0]
    assert (tile.answer, tile.state) == (answer, state)


def test_without_a_teacher_nothing_is_compared(report: Report) -> None:
    alone = replace(report, models=report.students[:1])
    assert len(tiles(alone)) == 1
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
