"""Reports of ``edgedetr verify`` are read strictly, and their verdict is computed again."""

import json

import numpy as np
import pytest

from edgedetr.export.verify.batches import BatchCheck
from edgedetr.export.verify.figures import figures_from_pairs
from edgedetr.export.verify.limits import FP32_LIMITS, INT8_LIMITS
from edgedetr.export.verify.lost_share import lost_share
from edgedetr.export.verify.matching import Pairs
from edgedetr.export.verify.record import read_verify_record
from edgedetr.export.verify.report import ParityReport
from edgedetr.runtime.errors import ArtifactError


def report(limits=INT8_LIMITS, lost=0, **changes):
    """The report of 50 frames of 4 detections each; in the first ones a box is 40 px off."""
    pairs = []
    for frame in range(50):
        apart = np.array([40.0 if frame < lost else 0.25, 0, 0, 0])
        ious = np.array([0.6 if frame < lost else 0.96, 1, 1, 1])
        pairs.append(Pairs(apart, np.array([0.0005, 0, 0, 0]), ious, 0))
    return ParityReport(
        figures=figures_from_pairs(pairs, len(pairs), 0),
        share=lost_share([p.lost(limits) for p in pairs], [p.compared for p in pairs]),
        limits=limits,
        threshold=0.3,
        reference="m.onnx",
        reference_sha256="ab" * 32,
        candidate="m.int8.onnx",
        candidate_sha256="cd" * 32,
        command="edgedetr verify",
        precisions=("fp32", "fp32" if limits.exact else "int8"),
        **changes,
    )


@pytest.fixture
def read(tmp_path):
    """Writes a report with changes, and reads it."""

    def check(found=None, **changes):
        path = tmp_path / "v.json"
        values = (found or report()).to_dict() | changes
        path.write_text(json.dumps(values), encoding="utf-8")
        return read_verify_record(path)

    return check


def test_what_is_read(read):
    record = read()
    assert (record.verdict, record.passed, record.reason) == ("passed", True, "")
    assert (record.reference, record.reference_sha256) == ("m.onnx", "ab" * 32)
    assert (record.candidate, record.candidate_sha256) == ("m.int8.onnx", "cd" * 32)
    assert record.report.figures == report().figures
    assert record.report.limits == INT8_LIMITS
    assert record.figures["max_box_error_px"] == 0.25
    assert record.figures["limit_of_iou"] == 0.8


@pytest.mark.parametrize(
    ("limits", "lost", "verdict"),
    [
        (FP32_LIMITS, 0, "passed"),
        (FP32_LIMITS, 1, "failed"),
        (INT8_LIMITS, 0, "passed"),
        (INT8_LIMITS, 19, "undecided"),
        (INT8_LIMITS, 50, "failed"),
    ],
)
def test_what_is_written_is_read_again(read, limits, lost, verdict):
    found = report(limits, lost)
    record = read(found)
    assert record.verdict == found.verdict == verdict
    assert bool(record.reason) == (verdict != "passed")


def test_what_a_batch_and_the_activations_say_counts(read):
    check = BatchCheck("m.int8.onnx", 2, "equal rows", 0, 3, 4, 1.0, 0.1, 0, holds=False)
    found = report(batches=(check,))
    assert read(found).verdict == "failed"
    said = {"passed": True, "verdict": "passed", "reason": ""}
    with pytest.raises(ArtifactError, match=r"it says 'passed', .* say 'failed' \(m\.int8"):
        read(found, **said)
    with pytest.raises(ArtifactError, match="a batch of 2 cannot hold with 3 detections lost"):
        read(found, batches=[check.to_dict() | {"holds": True}], **said)
    nan = {"node": "n", "tensor": "t", "nan": 1, "infinite": 0, "saturated": 0}
    scans = [{"model": "m.int8.onnx", "tensors": 9, "broken": [nan]}]
    activations = {"frames": 3, "scans": scans, "blocks": [], "note": ""}
    with pytest.raises(ArtifactError, match=r"say 'failed' .*1 of 9 activations not finite"):
        read(activations=activations)
    block = {
        "block": "head",
        "precision": "int8",
        "tensors": 1,
        "worst_tensor": "t",
        "carried": None,
        "own_relative_error": 0.9,
        "own_cosine": 0.5,
        "explained": 0.1,
    }
    activations |= {"scans": [], "blocks": [block | {"departs": True}]}
    with pytest.raises(ArtifactError, match=r"say 'failed' .*1 INT8 block diverges"):
        read(activations=activations)
    for change in ({"departs": False}, {"departs": False, "explained": 3.0}):
        with pytest.raises(ArtifactError, match="'head' has an error that contradicts"):
            read(activations=activations | {"blocks": [block | change]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passed": "yes"}, "'passed' must be true or false, found 'yes'"),
        ({"verdict": "failed"}, "'failed' does not go with 'passed': True"),
        ({"verdict": ["failed"]}, "does not go with"),
        ({"passed": False, "verdict": "maybe"}, "'maybe' does not go with"),
        ({"passed": False, "verdict": "failed"}, "says 'failed', its figures and limits say 'pas"),
        ({"reason": "worst box error 9 px"}, "does not go with the verdict 'passed'"),
        ({"candidate": 3}, "'candidate' must be a text, found 3"),
        ({"candidate_sha256": "cd"}, "'candidate_sha256' must be a SHA-256, found 'cd'"),
        ({"candidate_precision": "int3"}, "'int3' is no precision"),
        ({"limits": []}, "limits: wanted a table"),
        ({"limits": {"iou": 0.5, "score": 0.1}}, "limits: unknown key 'score'; did you mean"),
        ({"threshold": 30}, "'threshold' must be a number from 0 to 1"),
        ({"matched": 1.5}, "matched: wanted int, found 1.5"),
        ({"frames": True}, "frames: wanted int, found True"),
        ({"mean_score_error": "0"}, "mean_score_error: wanted float, found '0'"),
        ({"max_score_error": float("nan")}, "NaN is no number in JSON"),
        ({"p99_box_error_px": float("inf")}, "Infinity is no number in JSON"),
        ({"frames": 10**400}, "a number of 401 digits is too large"),
        ({"frames": 0}, "0 frames"),
        ({"tied_frames": -1}, "'tied_frames' must not be negative"),
        ({"compared": 100}, "do not make 100 compared"),
        ({"lost_share": 0.5}, "0 of 200 detections are no share of 0.5"),
        ({"unmatched": 250}, "250 of 200 detections are no share of 0"),
        ({"min_iou": 0.2}, "0 lost cannot be: .* the worst pair is beyond the limits"),
        ({"max_score_error": 0.4}, "the worst pair is beyond the limits"),
        ({"p99_box_error_px": 1e6}, "'p99_box_error_px' cannot be 1e.06, above 0.25"),
        ({"min_iou": None}, "there must be errors where detections were matched"),
        ({"lost_share_high": 0.001}, "an upper bound of 0.10% cannot be: 50 frames with 200"),
        ({"error_rate": 0.5}, "'error_rate' must be at most 0.05, found 0.5"),
    ],
)
def test_what_is_refused(read, changes, message):
    with pytest.raises(ArtifactError, match=message) as stopped:
        read(**changes)
    assert "\n" not in str(stopped.value)


def test_a_verdict_of_its_own_limits(read):
    """What was measured under one limit did not pass under another."""
    limits = report().to_dict()["limits"]
    with pytest.raises(ArtifactError, match="it says 'passed', its figures and limits say 'undec"):
        read(limits=limits | {"lost_share": 0.001})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"passed": true, "passed": false}', "the key 'passed' occurs twice"),
        ('{"passed": true, "frames": 1e999}', "the number 1e999 is too large"),
        (" " * (2 << 20), "larger than 1 MiB"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "wanted a JSON object"),
        ("{}", "the key 'frames' is missing"),
    ],
)
def test_what_is_no_report_at_all(tmp_path, text, message):
    path = tmp_path / "v.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=message):
        read_verify_record(path)
