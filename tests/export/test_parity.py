import json
from dataclasses import replace

import numpy as np
import pytest

from edgedetr.export.limits import FP16_LIMITS, FP32_LIMITS, INT8_LIMITS, Gate
from edgedetr.export.matching import Rule
from edgedetr.export.parity import compare
from edgedetr.export.parity_report import ParityReport
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((20, 40), ("Car", "Pedestrian"))
FRAMES = [np.full((20, 40, 3), grey, np.uint8) for grey in (10, 200)]
CAR, MAN = (10, 5, 30, 15, 0.8, 0), (2, 2, 6, 18, 0.6, 1)


class Told:
    """A runner that always answers what it was told: (x0, y0, x1, y1, score, class) in pixels."""

    precision = "fp32"
    batch_sizes = (1,)

    def __init__(self, *rows, spec=SPEC):
        self.spec = spec
        self.seen = []
        height, width = spec.input_hw
        table = np.array(rows, float).reshape(-1, 6)
        scores = np.full((len(rows), len(spec.class_names)), 1e-4)
        scores[np.arange(len(rows)), table[:, 5].astype(int)] = table[:, 4]
        low, high = table[:, :2] / (width, height), table[:, 2:4] / (width, height)
        self.logits = np.log(scores / (1 - scores))[None].astype(np.float32)
        self.boxes = np.hstack([(low + high) / 2, high - low])[None].astype(np.float32)

    def __call__(self, images):
        self.seen.append(images.copy())
        return self.logits, self.boxes


def figures(a, b, frames=FRAMES, **rule):
    return compare(a, b, frames, Rule(**rule), ("a.onnx", "b.onnx"))


def report(found, limits=FP32_LIMITS, threshold=0.3):
    return ParityReport(found, limits, threshold, "a.onnx", "12ab", "b.onnx", "34cd", "verify")


def test_a_model_equals_itself_whatever_the_order_of_its_queries():
    found = figures(Told(CAR, MAN), Told(MAN, CAR))
    assert (found.frames, found.matched, found.unmatched) == (2, 4, 0)
    assert found.max_box_error_px == found.max_score_error == 0
    assert found.min_iou == 1
    assert report(found).passed


def test_errors_are_those_of_source_pixels():
    """The frames are twice as large as the input, so a pixel there is two here."""
    frames = [np.zeros((40, 80, 3), np.uint8)]
    moved = (10, 6, 30, 15, 0.75, 0)
    found = figures(Told(CAR, MAN), Told(moved, MAN), frames)
    assert found.max_box_error_px == pytest.approx(2, abs=1e-4)
    assert found.p99_box_error_px == pytest.approx(1.98, abs=1e-4)  # 99 % of the way from 0 to 2
    assert found.max_score_error == pytest.approx(0.05, abs=1e-5)
    assert found.mean_score_error == pytest.approx(0.025, abs=1e-5)
    assert found.min_iou == pytest.approx(0.9)


def test_a_missing_and_an_additional_detection_have_no_partner():
    found = figures(Told(CAR, MAN), Told(CAR))
    assert (found.matched, found.unmatched) == (2, 2)
    assert found.unmatched_share == 0.5
    assert figures(Told(CAR), Told(CAR, MAN)).unmatched == 2


def test_a_score_on_the_threshold_is_no_difference_and_one_far_below_is():
    barely, nearly, hardly = ((*CAR[:4], score, 0) for score in (0.301, 0.299, 0.19))
    assert figures(Told(barely), Told(nearly)).unmatched == 0
    assert figures(Told(nearly), Told(barely)).matched == 2
    assert figures(Told(barely), Told(hardly)).unmatched == 2


def test_a_partner_may_be_beyond_the_number_of_detections_that_the_spec_keeps():
    spec = replace(SPEC, max_detections=1)
    a, b = Told(CAR, (*MAN[:4], 0.79, 1), spec=spec), Told((*CAR[:4], 0.78, 0), MAN, spec=spec)
    found = figures(a, b)
    assert (found.matched, found.unmatched) == (2, 0)


@pytest.mark.parametrize(("name", "bad"), [("logits", np.nan), ("boxes", np.inf)])
def test_numbers_that_are_not_finite_fail(name, bad):
    broken = Told(CAR, MAN)
    getattr(broken, name)[0, 1, :2] = bad
    found = figures(Told(CAR, MAN), broken)
    assert (found.frames, found.non_finite, found.matched) == (2, 4, 0)
    assert found.max_box_error_px is None
    assert report(found, INT8_LIMITS).reason == "4 numbers of the answers are not finite"


def test_nothing_found_is_no_pass():
    found = figures(Told((*CAR[:4], 0.1, 0)), Told((*CAR[:4], 0.1, 0)))
    verdict = report(found)
    assert not verdict.passed
    assert verdict.reason == (
        "no detection above 0.3 in any of 2 frames: nothing was compared; lower --threshold"
    )
    assert figures(Told((*CAR[:4], 0.1, 0)), Told((*CAR[:4], 0.1, 0)), threshold=0).matched > 0


def test_every_model_sees_the_frames_as_its_own_spec_says():
    grey = Told(CAR, spec=replace(SPEC, mean=(0.5, 0.5, 0.5)))
    plain = Told(CAR)
    figures(plain, grey)
    for frame, seen, shifted in zip(FRAMES, plain.seen, grey.seen, strict=True):
        assert seen == pytest.approx(frame[0, 0, 0] / 255)
        assert shifted == pytest.approx(frame[0, 0, 0] / 255 - 0.5)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"class_names": ("Car", "Cyclist")},
            "a.onnx has the classes Car, Pedestrian, b.onnx Car, Cyclist; compare",
        ),
        ({"input_hw": (20, 44)}, "a.onnx has an input of height and width 20, 40, b.onnx 20, 44;"),
    ],
)
def test_models_of_another_kind_are_refused(other, message):
    with pytest.raises(ArtifactError, match=message):
        figures(Told(CAR), Told(CAR, spec=replace(SPEC, **other)))


def found_with(**changes):
    return replace(figures(Told(CAR), Told(CAR)), **changes)


@pytest.mark.parametrize(
    ("changes", "fp32", "int8"),
    [
        ({}, "", ""),
        ({"max_box_error_px": 0.5, "max_score_error": 1e-3}, "", ""),
        ({"max_box_error_px": 0.51}, "worst box error 0.51 px, allowed 0.5 px", ""),
        ({"max_score_error": 0.0011}, "worst score error 0.0011, allowed 0.001", ""),
        (
            {"unmatched": 1, "matched": 9, "unmatched_share": 0.1},
            "1 of 10 detections have no partner, allowed 0.00%",
            "",
        ),
        (
            {"unmatched": 2, "matched": 9, "unmatched_share": 2 / 11},
            "2 of 11 detections have no partner, allowed 0.00%",
            "2 of 11 detections have no partner, allowed 10.00%",
        ),
        ({"p99_box_error_px": 8.5}, "", "p99 box error 8.5 px, allowed 8 px"),
        ({"mean_score_error": 0.06}, "", "mean score error 0.06, allowed 0.05"),
        (
            {"max_box_error_px": 9.0, "max_score_error": 0.2},
            "worst box error 9 px, allowed 0.5 px; worst score error 0.2, allowed 0.001",
            "",
        ),
    ],
)
def test_the_default_gates(changes, fp32, int8):
    found = found_with(**changes)
    limits = Gate().limits("fp32", "fp32"), Gate().limits("fp32", "int8")
    for allowed, reason in zip(limits, (fp32, int8), strict=True):
        verdict = report(found, allowed)
        assert (verdict.passed, verdict.reason) == (not reason, reason)


def test_the_coarser_precision_gives_the_limits():
    assert Gate().limits("fp32", "fp16") == Gate().limits("fp16", "fp32") == FP16_LIMITS
    assert Gate().limits("int8", "fp16") == INT8_LIMITS
    assert (FP16_LIMITS.box_error_px, FP16_LIMITS.score_error, FP16_LIMITS.worst) == (2, 5e-3, True)


def test_a_gate_replaces_only_what_it_names():
    limits = Gate(score_error=0.0, unmatched_share=0.5).limits("int8")
    assert limits == replace(INT8_LIMITS, score_error=0.0, unmatched_share=0.5)


def test_the_report_as_json_and_as_a_table():
    verdict = report(found_with(max_box_error_px=0.75))
    values = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert list(values)[:4] == ["passed", "reason", "frames", "matched"]
    assert values["passed"] is False
    assert values["max_box_error_px"] == 0.75
    assert values["limits"] == {
        "box_error_px": 0.5,
        "score_error": 0.001,
        "unmatched_share": 0.0,
        "worst": True,
    }
    assert (values["reference"], values["candidate_sha256"]) == ("a.onnx", "34cd")
    lines = verdict.table().splitlines()
    assert lines[0] == "b.onnx against a.onnx, scores from 0.3"
    cells = [_cells(line) for line in lines]
    assert ["worst box error", "0.75 px", "0.5 px"] in cells
    assert ["p99 box error", "0 px"] in cells
    assert lines[-1] == "FAILED: worst box error 0.75 px, allowed 0.5 px"
    empty = figures(Told(), Told())
    assert ["least IoU", "-"] in [_cells(line) for line in report(empty).table().splitlines()]


def _cells(line):
    return [cell.strip() for cell in line.split("  ") if cell.strip()]
