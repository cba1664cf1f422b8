"""The commands bench and report."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgedetr.runtime import cli
from edgedetr.runtime.cli import edgedetr
from edgedetr.runtime.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tiny = Callable[..., Path]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((20, 40, 3), np.uint8))
    return folder


def test_the_command_writes_json(
    tiny_onnx: Tiny,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "results" / "latency.json"
    arguments = ["bench", "latency", tiny_onnx(), "--images", images, "--json", out, "--frames", 4]
    monkeypatch.setattr(sys, "argv", ["edgedetr", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    figures = json.loads(out.read_text())
    assert figures["end_to_end"]["p50_ms"] <= figures["end_to_end"]["p99_ms"]
    assert figures["floor_ms"] == figures["model_only"]["p50_ms"]
    assert figures["command"].startswith("edgedetr bench latency ")
    assert "tiny.onnx: 4 frames, session p50 " in capsys.readouterr().out


def test_command_prints_the_table_and_the_page(run: Path) -> None:
    result = CliRunner().invoke(edgedetr, ["report", str(run), "--frames", "2"])
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines()]
    assert ["COCO", "AP50", "1.000", "0.500", "(50", "%)", "0.500", "(50", "%)"] in rows
    assert str(run / "report.html") in result.output


def test_a_gate_that_did_not_pass_is_on_top_of_the_report_and_fails_the_command(
    run: Path, parity: Callable[..., None]
) -> None:
    parity(run, lost=19, reason="40 more frames would decide")
    result = CliRunner().invoke(edgedetr, ["report", str(run)])
    assert isinstance(result.exception, GateError)
    assert "undecided: 40 more frames would decide" in str(result.exception)
    report = json.loads((run / "report.json").read_text())
    assert report["verdict"] == "undecided"
    timed = "is not worth it"  # of models so small, by chance
    assert [reason for reason in report["reasons"] if timed not in reason] == [
        "student.int8.onnx against student.onnx: undecided: 40 more frames would decide"
    ]
    html = (run / "report.html").read_text()
    assert html.index("verdict undecided") < html.index("40 more frames") < html.index("<main>")


def test_check_measures_nothing_and_says_what_the_gates_say(
    run: Path, parity: Callable[..., None]
) -> None:
    command = ["report", str(run), "--check"]
    result = CliRunner().invoke(edgedetr, command)
    assert (result.exit_code, result.output) == (0, f"{run}: passed.\n")
    parity(run, lost=50, reason="far")
    result = CliRunner().invoke(edgedetr, command)
    assert isinstance(result.exception, GateError)
    assert str(result.exception) == (
        f"{run}: failed: student.int8.onnx against student.onnx: failed: far"
    )
    assert not list(run.glob("report.*"))


def test_a_report_is_judged_by_budgets(report_json: Tiny, tmp_path: Path) -> None:
    budgets = tmp_path / "budgets.toml"
    budgets.write_text("[models.student]\nap = { min = 0.4 }\nfile_mib = { max = 1 }\n")
    out = tmp_path / "gate.json"
    command = ["gate", str(report_json()), str(budgets), "--json", str(out)]
    done = CliRunner().invoke(edgedetr, command)
    assert done.output.splitlines() == ["student file_mib: 1.5, wanted at most 1"]
    assert json.loads(out.read_text())["broken"] == ["student file_mib: 1.5, wanted at most 1"]
    assert isinstance(done.exception, GateError)
    assert str(done.exception).endswith(f"1 budget of {budgets} broken")
    budgets.write_text("[models.student]\nap = { min = 0.4 }\n")
    done = CliRunner().invoke(edgedetr, ["gate", str(report_json()), str(budgets)])
    assert done.exit_code == 0
    assert done.output.endswith("1 budget of figures held\n")


def test_two_reports_are_compared(report_json: Tiny, tmp_path: Path) -> None:
    old, new = str(report_json("old.json")), str(report_json("new.json", verdict="failed"))
    done = CliRunner().invoke(edgedetr, ["report", "--compare", old, new])
    assert done.exit_code == 0
    assert done.output.splitlines()[-1] == "the verdict was passed and is failed"
    done = CliRunner().invoke(edgedetr, ["report", "run", "--compare", old, new])
    assert str(done.exception).endswith("measure nothing; leave out run")
    out = tmp_path / "changes.json"
    CliRunner().invoke(edgedetr, ["report", "--compare", old, new, "--json", str(out)])
    values = json.loads(out.read_text())
    assert values["models"]["teacher"]["latency_ms.p99"] == {"old": 9, "new": 9}
    assert values["notes"] == ["the verdict was passed and is failed"]


def test_the_schema_of_reports_is_printed() -> None:
    done = CliRunner().invoke(edgedetr, ["report", "--schema"])
    assert json.loads(done.output)["title"] == "report.json of edgedetr report"
    done = CliRunner().invoke(edgedetr, ["report", "--schema", "--json", "schema.json"])
    assert "--json goes with --compare" in str(done.exception)


def test_a_report_needs_a_run() -> None:
    done = CliRunner().invoke(edgedetr, ["report"])
    assert (
        str(done.exception) == "no run is given; wanted edgedetr report RUN, or --compare OLD NEW"
    )
