"""The report's section on how much of a model may run in INT8."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

from edgedetr.bench.report.assemble import DataChoice, write_report
from edgedetr.bench.report.coverage import CoverageSection, coverage_section
from edgedetr.export.search.coverage_record import CoverageRecord, Step
from edgedetr.export.search.sensitivity import BlockEffect
from edgedetr.export.verify.figures import figures_from_pairs
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import sha256

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.pages.charts import LineChart

RECORD = CoverageRecord(
    int8="student.int8.onnx",
    model="student.onnx",
    model_sha256="0",
    command="edgedetr export qdq student.onnx --max-ap-drop 0.5",
    max_ap_drop=0.5,
    is_worth_it=True,
    coverage=0.75,
    frames=20,
    macs=100,
    fp32_ap=40.0,
    ap=39.6,
    chosen=("stem", "neck"),
    curve=(
        Step("stem", ("stem",), 0.25, 40.1, -0.1, kept=True),
        Step("head", ("stem", "head"), 0.5, 38.0, 2.0, kept=False),
        Step("neck", ("stem", "neck"), 0.75, 39.6, 0.4, kept=True),
    ),
    blocks=tuple(
        BlockEffect(name, ("/conv",), 25, 0.25, 39.9, 0.1, figures_from_pairs([], 20, 0))
        for name in ("head", "stem", "neck")
    ),
    said="75.0% of the multiply-accumulates in INT8, within an AP drop of 0.5 points",
)


def chart_of(section: CoverageSection) -> LineChart:
    assert section.chart is not None
    return section.chart


def test_the_chart_shows_what_was_kept_the_limit_and_what_broke_it() -> None:
    section = coverage_section(RECORD)
    assert section.verdict == "good"
    assert section.summary == f"{RECORD.said}."
    assert [line.name for line in chart_of(section).lines] == [
        "chosen so far",
        "FP32",
        "limit, 0.5 points below",
        "left out: head",
    ]
    assert chart_of(section).lines[0].path.count("L") == 2
    assert (chart_of(section).x.low, chart_of(section).x.high) == (0, 100)
    assert (chart_of(section).y.low, chart_of(section).y.high) == pytest.approx((37.79, 40.31))
    assert [(row[0], row[-1]) for row in section.rows] == [
        ("head", "float"),
        ("stem", "INT8"),
        ("neck", "INT8"),
    ]


def test_the_answer_with_the_rest_in_fp16_stands_apart() -> None:
    """The search measured with the rest in FP32; only the last points are what was written."""
    ends = (
        Step("all", ("stem", "neck"), 0.75, 39.0, 1.0, kept=False, rest="fp16"),
        Step("without neck", ("stem",), 0.25, 39.9, 0.1, kept=True, rest="fp16"),
    )
    curve = (*RECORD.curve, *ends)
    section = coverage_section(replace(RECORD, curve=curve, rest="fp16", coverage=0.25, ap=39.9))
    assert [line.name for line in chart_of(section).lines][3:] == [
        "left out: head",
        "loses too much: all",
        "holds: without neck",
    ]
    assert chart_of(section).lines[0].path.count("L") == 2


def test_int8_that_is_not_worth_it_is_said() -> None:
    worst = RECORD.curve[1]
    section = coverage_section(
        replace(RECORD, is_worth_it=False, coverage=0.0, ap=40.0, chosen=(), curve=(worst,))
    )
    assert section.verdict == "bad"
    assert section.summary == f"INT8 is not worth it here: {RECORD.said}."
    assert chart_of(section).lines[0].name == "chosen so far"


def test_without_labels_the_chart_is_of_detections_that_are_kept() -> None:
    """The gate allows INT8 to lose a tenth of them; 4 and 12 % are lost here."""
    curve = (
        Step("stem", ("stem",), 0.25, None, None, kept=True, lost_share=0.04),
        Step("head", ("stem", "head"), 0.5, None, None, kept=False, lost_share=0.12),
    )
    record = replace(RECORD, max_ap_drop=None, fp32_ap=None, ap=None, curve=curve)
    chart = chart_of(coverage_section(record))
    assert [line.name for line in chart.lines] == [
        "chosen so far",
        "FP32",
        "limit, 10 % lost",
        "left out: head",
    ]
    assert (chart.y.low, chart.y.high) == pytest.approx((88 - 1.2, 100 + 1.2))


def test_what_could_not_be_measured_is_neither_good_nor_bad() -> None:
    nothing = {"nothing_to_compare": True, "is_worth_it": False, "curve": (), "blocks": ()}
    section = coverage_section(replace(RECORD, **nothing, said="the model finds nothing"))  # type: ignore[arg-type]
    assert (section.verdict, section.chart, section.rows) == ("plain", None, ())
    assert section.summary == "INT8 was not made: the model finds nothing."


def test_older_files_say_nothing_themselves() -> None:
    section = coverage_section(replace(RECORD, said=""))
    assert section.summary == "75.0% of the multiply-accumulates may run in INT8."


def test_a_search_that_nothing_came_of_has_no_chart_but_a_report(
    run: Path, kitti_root: Path
) -> None:
    digest = sha256(run / "student.onnx")
    record = replace(RECORD, model_sha256=digest, is_worth_it=False, curve=(), chosen=(), blocks=())
    path = run / "student.int8.onnx.coverage.json"
    path.write_text(json.dumps(asdict(record)), encoding="utf-8")
    assert write_report(run, DataChoice(root=kitti_root)).verdict.word == "failed"
    assert "<h2>INT8 coverage</h2>" not in (run / "report.html").read_text(encoding="utf-8")
    level = replace(RECORD.curve[0], ap=40.0)
    flat = coverage_section(replace(RECORD, max_ap_drop=0.0, curve=(level,)))
    assert (chart_of(flat).y.low, chart_of(flat).y.high) == (39.0, 41.0)


def test_the_report_has_a_section_for_each_search(run: Path, kitti_root: Path) -> None:
    record = replace(RECORD, model_sha256=sha256(run / "student.onnx"))
    path = run / "student.int8.onnx.coverage.json"
    path.write_text(json.dumps(asdict(record)), encoding="utf-8")
    report = write_report(run, DataChoice(root=kitti_root))
    assert report.coverage == (record,)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<h2>INT8 coverage</h2>" in page
    assert "student.int8.onnx from student.onnx" in page
    written = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert written["coverage"][0]["coverage"] == 0.75
    path.write_text(json.dumps(asdict(RECORD)), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"another student\.onnx than the one beside it"):
        write_report(run, DataChoice(root=kitti_root))
