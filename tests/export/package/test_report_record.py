"""A ``report.json`` is read strictly; a comparison that passed has figures within its limits."""

import json

import pytest

from edgedetr.export.package.report_record import read_report_record
from edgedetr.runtime.errors import ArtifactError

FIGURES = {
    "lost": 0,
    "compared": 200,
    "lost_share_high": 0.04,
    "non_finite": 0,
    "limit_of_lost_share": 0.1,
}
CHECK = {"name": "verify.json", "passed": True, "verdict": "passed", "figures": FIGURES}
MODEL = {
    "name": "m",
    "sha256": "ab" * 32,
    "ap": 0.4,
    "file_mib": 3.4,
    "agreement_with_teacher": None,
    "latency_ms": {"p50": 3.0},
    "ap50_by_class": {"Car": 0.9},
    "kitti_ap40_moderate": {"Car": 79.0},
}


@pytest.fixture
def read(tmp_path):
    """Writes a report with one model and one comparison, and reads it."""

    def check(model=MODEL, comparison=CHECK, **changes):
        path = tmp_path / "report.json"
        values = {"verdict": "passed", "models": [model], "parity": [comparison]} | changes
        path.write_text(json.dumps(values), encoding="utf-8")
        return read_report_record(path)

    return check


def test_what_is_read(read):
    record = read()
    assert record.models == {"m": "ab" * 32}
    assert (record.verdict, record.verdicts) == ("passed", {"verify.json": "passed"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_mib": "3"}, "'file_mib' must be a number, found '3'"),
        ({"file_mib": float("nan")}, "NaN is no number"),
        ({"ap": 1.5}, "'ap' must lie in 0 to 1, found 1.5"),
        ({"gflops": -1}, "'gflops' must lie in 0 to inf"),
        ({"latency_ms": {"p50": "fast"}}, "'latency_ms' must be a number, found 'fast'"),
        ({"ap50_by_class": {"Car": 9}}, "'ap50_by_class' must lie in 0 to 1"),
        ({"sha256": "12"}, "'sha256' must be a SHA-256"),
    ],
)
def test_figures_of_a_model_are_numbers_of_their_range(read, changes, message):
    with pytest.raises(ArtifactError, match=message):
        read(model=MODEL | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passed": "no"}, "'passed' must be true or false, found 'no'"),
        ({"figures": None}, "'figures' must be an object"),
        ({"figures": {}}, r"verify\.json passed without figures"),
        ({"figures": FIGURES | {"compared": 0}}, "passed without figures"),
        ({"figures": FIGURES | {"lost_share_high": 0.2}}, "its figures say that it did not"),
        ({"figures": FIGURES | {"non_finite": 1}}, "its figures say that it did not"),
        ({"figures": FIGURES | {"limit_of_lost_share": 0.0, "lost": 1}}, "that it did not: 1 lost"),
        ({"figures": FIGURES | {"lost": "0"}}, "'lost' must be a number"),
        ({"passed": False, "verdict": "failed"}, "it passed though a comparison in it did not"),
    ],
)
def test_verdicts_are_what_the_figures_say(read, changes, message):
    with pytest.raises(ArtifactError, match=message):
        read(comparison=CHECK | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "good"}, "'verdict' must be one of passed, failed, undecided"),
        ({"verdict": None}, "'verdict' must be a text"),
        ({"models": {"a": 1}}, "'models' must be a list of objects"),
        ({"parity": None}, "'parity' must be a list of objects"),
    ],
)
def test_what_is_no_report(read, changes, message):
    with pytest.raises(ArtifactError, match=message):
        read(**changes)
