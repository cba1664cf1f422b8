from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgedetr.bench.report.assemble import DataChoice, write_report
from edgedetr.bench.report.contents import ParityResult, Report, Verdict
from edgedetr.bench.report.verdict import headline, tiles, verdict
from edgedetr.export.search.coverage_record import CoverageRecord
from edgedetr.export.search.sensitivity import BlockEffect
from edgedetr.export.verify.figures import figures_from_pairs

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
    assert "with clock, initialised with a selection of its weights: 3 epochs" in headline(
        replace(report, made_by=heir)
    )
    assert headline(replace(report, made_by=None)).startswith(
        "teacher, student and student.int8, measured on 4 frames of "
    )


def test_tiles_compare_the_last_student_with_the_teacher(report: Report) -> None:
    teacher, student, int8 = report.models
    models = (with_latency(teacher, 30.0), with_latency(student, 10.0), with_latency(int8, 40.0))
    accuracy, speed, size = tiles(replace(report, models=models))
    assert accuracy.answer == "50 %"
    assert speed.answer == "1.33x slower"
    assert "student: 3.0x faster" in speed.detail
    assert size.answer == f"{100 * int8.file_mib / teacher.file_mib:.0f} %"


def test_int8_that_is_no_faster_is_told(report: Report) -> None:
    teacher, student, int8 = report.models

    def judged(student_ms: float, int8_ms: float) -> Verdict:
        times = ((teacher, 1.0), (student, student_ms), (int8, int8_ms))
        models = [replace(m, model_latency=replace(m.model_latency, p50_ms=ms)) for m, ms in times]
        return verdict([compared("passed")], [], models)

    library = int8.ran_on.partition(",")[0]
    assert int8.precision == "int8"
    assert judged(9.7, 10.0) == Verdict(
        "passed", (f"student.int8 is not worth it in {library}: 0.97x the speed of student.",)
    )
    assert judged(10.1, 10.0) == Verdict("passed", ())


def compared(word: str, *, matched: int = 9, **figures: str | float) -> ParityResult:
    """A comparison of student.int8.onnx that came out as ``word``."""
    return ParityResult(
        name="verify.int8.json",
        passed=word == "passed",
        models="student.int8.onnx against student.onnx",
        command="edgedetr verify",
        figures={"matched": matched, "unmatched": 0, **figures},
        verdict=word,
    )


def searched(**changes: object) -> CoverageRecord:
    """A search for what may run in INT8 that put the neck there and left the head."""
    blocks = tuple(
        BlockEffect(name, ("/conv",), 40, 0.4, None, None, figures_from_pairs([], 20, 0))
        for name in ("neck", "head")
    )
    record = CoverageRecord(
        int8="student.int8.onnx",
        model="student.onnx",
        model_sha256="0",
        command="edgedetr export qdq",
        max_ap_drop=0.0,
        is_worth_it=True,
        coverage=0.4,
        frames=20,
        macs=100,
        fp32_ap=0.0,
        ap=0.0,
        chosen=("neck",),
        curve=(),
        blocks=blocks,
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def test_the_worst_gate_is_the_verdict() -> None:
    good, unsure, bad = compared("passed"), compared("undecided"), compared("failed", reason="far")
    assert verdict([good], []) == Verdict("passed", ())
    assert verdict([good, unsure], []).word == "undecided"
    judged = verdict([unsure, bad, good], [])
    assert judged.word == "failed"
    assert judged.reasons == (
        "student.int8.onnx against student.onnx: undecided: see verify.int8.json",
        "student.int8.onnx against student.onnx: failed: far",
    )
    assert [verdict([check], []).holds for check in (good, unsure, bad)] == [True, False, False]


def test_without_a_check_nothing_is_called_passed() -> None:
    judged = verdict([], [])
    assert judged.word == "not compared"
    assert judged.holds
    assert "edgedetr verify" in judged.reasons[0]


def test_models_that_find_nothing_are_no_failure() -> None:
    nothing = compared("undecided", matched=0)
    judged = verdict([nothing], [])
    assert judged.word == "not compared"
    assert judged.holds
    assert judged.reasons == (
        "student.int8.onnx against student.onnx: nothing to compare, because neither finds "
        "anything.",
    )
    assert verdict([compared("passed"), nothing], []).word == "passed"


def test_int8_that_is_not_worth_it_is_a_gate_that_failed() -> None:
    said = "5.0% of the multiply-accumulates in INT8"
    judged = verdict([compared("passed")], [searched(is_worth_it=False, coverage=0.05, said=said)])
    assert judged.word == "failed"
    assert judged.reasons == (f"INT8 is not worth it here: {said}.",)


def test_a_search_says_which_blocks_stay_float() -> None:
    judged = verdict([compared("passed")], [searched()])
    assert judged.word == "passed"
    assert judged.reasons == (
        "student.int8.onnx has 40.0% of the multiply-accumulates in INT8; kept in FP32: head.",
    )
    assert verdict([], [searched(chosen=("neck", "head"))]).reasons == ()


def test_without_a_teacher_there_are_no_tiles(report: Report) -> None:
    assert not tiles(replace(report, models=report.students[:1]))
