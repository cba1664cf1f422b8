"""Budgets: each that is broken is one line, and what was not measured holds nothing."""

import pytest

from edgedetr.bench.report.budgets import broken_budgets, read_budgets
from edgedetr.bench.report.record import read_report
from edgedetr.runtime.errors import SettingsError


@pytest.fixture
def broken(tmp_path, report_json):
    """What budgets in TOML find broken in a report."""

    def judge(text, **changes):
        path = tmp_path / "budgets.toml"
        path.write_text(text)
        return broken_budgets(read_report(report_json(**changes)), read_budgets(path))

    return judge


@pytest.mark.parametrize(
    ("budget", "lines"),
    [
        ("ap = { min = 0.4 }", []),
        ("ap = { max = 0.4 }", []),
        ("ap = { min = 0.41 }", ["student ap: 0.4, wanted at least 0.41"]),
        ('"latency_ms.p99" = { max = 8 }', ["student latency_ms.p99: 9, wanted at most 8"]),
        ('"ap50_by_class.Car" = { min = 0.7, max = 0.7 }', []),
        ("ap = { min_ratio = 0.8 }", []),  # 0.4 of 0.5
        (
            "ap = { min_ratio = 0.81, max = 0.3 }",
            [
                "student ap: 0.4, wanted at most 0.3",
                "student ap: 0.8 of the teacher's 0.5, wanted at least 0.81",
            ],
        ),
        (
            '"latency_ms.p50" = { max_ratio = 0.9 }',
            ["student latency_ms.p50: 1 of the teacher's 5, wanted at most 0.9"],
        ),
        ("ap5 = { min = 0 }", ["student ap5: not measured; did you mean ap50?"]),
        ("agreement_with_teacher = { min = 0 }", ["student agreement_with_teacher: not measured"]),
        (
            "file_mib = { max_ratio = 1 }",
            ["student file_mib: 1.5, and the teacher has no such figure to compare it with"],
        ),
    ],
)
def test_a_figure_is_held_to_its_bounds(broken, budget, lines):
    assert broken(f"[models.student]\n{budget}") == lines


def test_a_model_that_is_missing_breaks_its_budget(broken):
    assert broken('[models."student.int8"]\nap = { min = 0 }') == [
        "student.int8: not in the report, which has teacher, student"
    ]


def test_the_verdict_and_the_frames_have_budgets(broken):
    text = 'verdict = "passed"\nframes = { min = 200 }\n[models.student]\nap = { min = 0 }'
    assert broken(text, verdict="undecided") == [
        "verdict: undecided, wanted passed",
        "frames: 180, wanted at least 200",
    ]


def test_a_verdict_alone_is_a_budget(broken):
    assert broken('verdict = "passed"') == []
    assert broken("frames = { max = 100 }") == ["frames: 180, wanted at most 100"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[models]", "no budget, which would accept every report"),
        ("", "no budget, which would accept every report"),
        ("[models.student]\nap = {}", "models.student.ap: a budget needs one of min, max"),
        ("[models.student]\nap = 3", "models.student.ap: wanted a table"),
        ("[models.student]\nap = { least = 3 }", "unknown key 'least'"),
        ("[models.student]\nap = { min = nan }", "wanted a finite number"),
        ("[model.student]\nap = { min = 0 }", "unknown key 'model'; did you mean 'models'?"),
    ],
)
def test_wrong_budgets_are_refused(broken, text, message):
    with pytest.raises(SettingsError, match=message):
        broken(text)
