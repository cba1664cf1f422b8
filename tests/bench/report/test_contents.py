"""What a report says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgedetr.bench.report.assemble import DataChoice, write_report
from edgedetr.bench.report.contents import ParityResult, Verdict

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("verdict", "matched", "word"),
    [
        ("passed", 3, "passed"),
        ("failed", 3, "failed"),
        ("undecided", 3, "undecided"),
        ("undecided", 0, "not compared"),
    ],
)
def test_a_check_of_models_that_find_nothing_compared_nothing(
    verdict: str, matched: int, word: str
) -> None:
    figures: dict[str, str | float] = {"matched": matched, "unmatched": 0}
    check = ParityResult("verify.json", verdict == "passed", "b to a", "", figures, verdict)
    assert check.word == word


def test_only_failed_and_undecided_gates_do_not_hold() -> None:
    assert Verdict("passed", ()).holds
    assert Verdict("not compared", ()).holds
    assert not Verdict("failed", ()).holds
    assert not Verdict("undecided", ()).holds


def test_what_is_not_defined_is_null(run: Path) -> None:
    report = write_report(run, DataChoice())
    first, *others = report.models
    report = replace(report, models=(replace(first, ap=float("nan")), *others))
    values = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert values["models"][0]["ap"] is None
    assert values["models"][0]["latency_ms"]["p50"] == first.latency.p50_ms
    assert "curves" not in values["models"][0]
    assert values["training"]["last_evaluation"] == {"step": 2, "ap": 0.25, "ap50": 0.5}
