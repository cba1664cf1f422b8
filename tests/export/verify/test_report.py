"""A parity report as JSON, as a table and in a line."""

import json

import numpy as np
import pytest

from edgedetr.export.verify.figures import figures_from_pairs
from edgedetr.export.verify.limits import FP16_LIMITS, FP32_LIMITS, INT8_LIMITS
from edgedetr.export.verify.lost_share import lost_share
from edgedetr.export.verify.matching import Pairs
from edgedetr.export.verify.report import ParityReport


def report(limits, frames=40, unmatched=0, box_error_px=0.0):
    """A report of frames with a detection each, of which the last pair has a box error."""
    one, none = np.ones(1), np.zeros(0)
    pairs = [Pairs(none, none, none, 1)] * unmatched
    pairs += [Pairs(0 * one, 0 * one, one, 0) for _ in range(frames - unmatched)]
    if pairs and box_error_px:
        pairs[-1] = Pairs(box_error_px * one, 0 * one, one, 0)
    return ParityReport(
        figures=figures_from_pairs(pairs, len(pairs), 0),
        share=lost_share([p.lost(limits) for p in pairs], [p.compared for p in pairs]),
        limits=limits,
        threshold=0.3,
        reference="a.onnx",
        reference_sha256="12ab",
        candidate="b.onnx",
        candidate_sha256="34cd",
        command="verify",
    )


def cells(found):
    """The cells of a report's table, row by row."""
    lines = found.table().splitlines()
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_the_report_as_json_and_as_a_table():
    found = report(FP32_LIMITS, frames=2, box_error_px=0.75)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(values)[:5] == ["passed", "verdict", "reason", "frames", "matched"]
    assert (values["passed"], values["verdict"]) == (False, "failed")
    assert values["max_box_error_px"] == 0.75
    assert values["limits"] == {
        "iou": 0.0,
        "score_error": 0.001,
        "lost_share": 0.0,
        "box_error_px": 0.5,
        "exact": True,
    }
    assert (values["lost"], values["compared"], values["lost_share"]) == (1, 2, 0.5)
    assert (values["reference"], values["candidate_sha256"]) == ("a.onnx", "34cd")
    rows = cells(found)
    assert rows[0] == [
        "b.onnx against a.onnx, score threshold 0.3; a detection without a match (sides within "
        "0.5 px, scores within 0.001) is lost"
    ]
    assert ["max box error", "0.75 px", "0.5 px"] in rows
    assert ["lost", "1 (50.00%)", "0.00%"] in rows
    assert rows[-1] == ["FAILED: max box error 0.75 px, allowed 0.5 px"]


def test_without_frames_errors_are_dashes():
    found = report(INT8_LIMITS, frames=0)
    assert ["min IoU", "-"] in cells(found)
    assert found.table().splitlines()[-1].startswith("UNDECIDED: no detection above 0.3")


def test_one_of_a_thing_is_singular():
    assert report(FP32_LIMITS, frames=1, unmatched=1).reason == "1 of 1 detection unmatched"
    assert report(FP32_LIMITS, frames=1).summary() == (
        "equal to a.onnx on 1 frame: 1 matched, 0 unmatched, max box error 0 px, max score error 0"
    )


def test_the_share_and_its_bounds_are_in_json_and_table():
    """By hand: 0 of 40 is at most 1 - 0.05 ** (1 / 40) = 7.22 %."""
    found = report(INT8_LIMITS)
    values = found.to_dict()
    assert (values["verdict"], values["passed"], values["frames_needed"]) == ("passed", True, None)
    assert (values["lost"], values["compared"], values["error_rate"]) == (0, 40, 0.05)
    assert values["lost_share_low"] == 0
    assert values["lost_share_high"] == pytest.approx(0.0722, abs=1e-4)
    assert ["lost", "0 (0.00%, 0.00% to 7.22%)", "10.00%"] in cells(found)
    assert ["max score error", "0"] in cells(found)  # a figure, no limit
    assert found.summary().startswith("close to a.onnx on 40 frames: 40 matched, 0 unmatched")
    unsure = report(FP16_LIMITS)
    values = unsure.to_dict()
    assert (values["verdict"], values["passed"]) == ("undecided", False)
    assert values["frames_needed"] == unsure.frames_needed
    assert unsure.reason.endswith(f"; about {unsure.frames_needed} more frames would decide")
