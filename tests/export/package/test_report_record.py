import json

import pytest

from edgedetr.export.package.report_record import read_report_record
from edgedetr.runtime.errors import ArtifactError

REPORT = {
    "verdict": "passed",
    "models": [{"name": "student.onnx", "sha256": "ab", "ap": 0.5}],
    "parity": [
        {"name": "verify.json", "verdict": "undecided", "passed": False},
        {"name": "older.json", "passed": True},
    ],
}


def written(path, values):
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_models_and_verdicts_are_read_by_name(tmp_path):
    record = read_report_record(written(tmp_path / "report.json", REPORT))
    assert record.models == {"student.onnx": "ab"}
    assert record.verdict == "passed"
    assert record.verdicts == {"verify.json": "undecided", "older.json": "passed"}


def test_an_older_report_has_no_verdict_of_all(tmp_path):
    older = {key: value for key, value in REPORT.items() if key != "verdict"}
    assert read_report_record(written(tmp_path / "report.json", older)).verdict == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": [{"name": "student.onnx"}]}, "'sha256' must be a text, found None"),
        ({"models": {}}, "'models' must be a list of objects, found {}"),
        ({"parity": [3]}, r"'parity' must be a list of objects, found \[3\]"),
        ({"parity": [{"name": "a"}]}, "'passed' must be true or false"),
        ({"parity": [{"name": "a", "passed": True, "verdict": "failed"}]}, "does not go with"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, change, message):
    path = written(tmp_path / "report.json", REPORT | change)
    with pytest.raises(ArtifactError, match=rf"{message}.*; run edgedetr report again"):
        read_report_record(path)
