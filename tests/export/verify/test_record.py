"""Reports of ``edgedetr verify`` are read strictly, in their older form as well."""

import json

import pytest

from edgedetr.export.verify.record import read_verify_record
from edgedetr.runtime.errors import ArtifactError

GOOD = {
    "passed": True,
    "reason": "",
    "frames": 40,
    "min_iou": None,
    "max_score_error": 0.01,
    "limits": {"score_error": 0.05, "worst": False},
    "reference": "m.onnx",
    "reference_sha256": "ab" * 32,
    "candidate": "m.int8.onnx",
    "candidate_sha256": "cd" * 32,
    "command": "edgedetr verify",
}


@pytest.fixture
def read(tmp_path):
    """Writes the good report with changes, and reads it."""

    def check(**changes):
        path = tmp_path / "v.json"
        path.write_text(json.dumps(GOOD | changes), encoding="utf-8")
        return read_verify_record(path)

    return check


def test_what_is_read(read):
    record = read()
    assert (record.verdict, record.passed, record.reason) == ("passed", True, "")
    assert (record.reference, record.reference_sha256) == ("m.onnx", "ab" * 32)
    assert (record.candidate, record.candidate_sha256) == ("m.int8.onnx", "cd" * 32)
    assert (record.frames, record.matched, record.mean_score_error) == (40, None, None)
    assert record.figures == {"frames": 40, "max_score_error": 0.01, "limit_of_score_error": 0.05}


def test_the_verdict_of_older_and_newer_files(read):
    assert read(passed=False).verdict == "failed"
    assert read(verdict="passed").passed
    undecided = read(passed=False, verdict="undecided")
    assert (undecided.verdict, undecided.passed) == ("undecided", False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passed": "yes"}, "'passed' must be true or false, found 'yes'"),
        ({"passed": True, "verdict": "failed"}, "'failed' does not go with 'passed': True"),
        ({"passed": True, "verdict": "undecided"}, "does not go with"),
        ({"passed": False, "verdict": "maybe"}, "'maybe' does not go with"),
        ({"passed": False, "verdict": ["failed"]}, "does not go with"),
        ({"candidate": 3}, "'candidate' must be a text, found 3"),
        ({"candidate_sha256": "cd"}, "'candidate_sha256' must be a SHA-256, found 'cd'"),
        ({"limits": []}, "'limits' must be an object"),
        ({"matched": 1.5}, "'matched' must be a whole number, found 1.5"),
        ({"frames": True}, "'frames' must be a whole number, found True"),
        ({"mean_score_error": "0"}, "'mean_score_error' must be a number, found '0'"),
        ({"max_score_error": float("nan")}, "NaN is no number in JSON"),
    ],
)
def test_what_is_refused(read, changes, message):
    with pytest.raises(ArtifactError, match=message):
        read(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"passed": true, "passed": false}', "the key 'passed' occurs twice"),
        ('{"passed": true, "frames": 1e999}', "the number 1e999 is too large"),
        (" " * (2 << 20), "larger than 1 MiB"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "wanted a JSON object"),
    ],
)
def test_what_is_no_report_at_all(tmp_path, text, message):
    path = tmp_path / "v.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=message):
        read_verify_record(path)
