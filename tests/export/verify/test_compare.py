from dataclasses import replace

import numpy as np
import pytest
from typing_extensions import override

from edgedetr.export.verify.compare import LEAST_EXACT, compare
from edgedetr.export.verify.limits import FP16_LIMITS, FP32_LIMITS, INT8_LIMITS
from edgedetr.export.verify.lost_share import ERROR_RATE
from edgedetr.export.verify.matching import Rule
from edgedetr.export.verify.report import ParityReport
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((20, 40), ("Car", "Pedestrian"))
FRAMES = [np.full((20, 40, 3), grey, np.uint8) for grey in (10, 200)]
CAR, MAN = (10, 5, 30, 15, 0.8, 0), (2, 2, 6, 18, 0.6, 1)


class Fixed:
    """A runner with fixed detections: (x0, y0, x1, y1, score, class) in pixels."""

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


def seen(a, b, limits=INT8_LIMITS, frames=FRAMES, **rule):
    return compare(a, b, frames, Rule(**rule), limits, ("a.onnx", "b.onnx"))


def figures(a, b, frames=FRAMES, **rule):
    return seen(a, b, frames=frames, **rule).figures


def report(evidence, limits=INT8_LIMITS, threshold=0.3, looks=1):
    return ParityReport(
        figures=evidence.figures,
        share=evidence.share(limits, ERROR_RATE / looks),
        limits=limits,
        threshold=threshold,
        reference="a.onnx",
        reference_sha256="12ab",
        candidate="b.onnx",
        candidate_sha256="34cd",
        command="verify",
    )


def test_a_model_equals_itself_whatever_the_order_of_its_queries():
    evidence = seen(Fixed(CAR, MAN), Fixed(MAN, CAR), FP32_LIMITS)
    found = evidence.figures
    assert (found.frames, found.matched, found.unmatched) == (2, 8, 0)  # of any score in FP32
    assert found.max_box_error_px == found.max_score_error == 0
    assert found.min_iou == 1
    assert report(evidence, FP32_LIMITS).passed
    assert figures(Fixed(CAR, MAN), Fixed(MAN, CAR)).matched == 4


def test_errors_are_those_of_source_pixels():
    """The frames are twice as large as the input, so a pixel there is two here."""
    frames = [np.zeros((40, 80, 3), np.uint8)]
    moved = (10, 6, 30, 15, 0.75, 0)
    found = figures(Fixed(CAR, MAN), Fixed(moved, MAN), frames)
    assert found.max_box_error_px == pytest.approx(2, abs=1e-4)
    assert found.p99_box_error_px == pytest.approx(1.98, abs=1e-4)  # 99 % of the way from 0 to 2
    assert found.max_score_error == pytest.approx(0.05, abs=1e-5)
    assert found.mean_score_error == pytest.approx(0.025, abs=1e-5)
    assert found.min_iou == pytest.approx(0.9)


def test_a_missing_and_an_additional_detection_are_unmatched():
    found = figures(Fixed(CAR, MAN), Fixed(CAR))
    assert (found.matched, found.unmatched) == (2, 2)
    assert found.unmatched_share == 0.5
    assert figures(Fixed(CAR), Fixed(CAR, MAN)).unmatched == 2


def test_a_score_on_the_threshold_is_no_difference_and_one_far_below_is():
    barely, nearly, hardly = ((*CAR[:4], score, 0) for score in (0.301, 0.299, 0.19))
    assert figures(Fixed(barely), Fixed(nearly)).unmatched == 0
    assert figures(Fixed(nearly), Fixed(barely)).matched == 2
    assert figures(Fixed(barely), Fixed(hardly)).unmatched == 2


def test_a_match_may_be_beyond_the_number_of_detections_that_the_spec_keeps():
    spec = replace(SPEC, max_detections=1)
    a, b = Fixed(CAR, (*MAN[:4], 0.79, 1), spec=spec), Fixed((*CAR[:4], 0.78, 0), MAN, spec=spec)
    found = figures(a, b)
    assert (found.matched, found.unmatched) == (2, 0)


@pytest.mark.parametrize("limits", [FP32_LIMITS, INT8_LIMITS])
@pytest.mark.parametrize(("name", "bad"), [("logits", np.nan), ("boxes", np.inf)])
def test_numbers_that_are_not_finite_fail(name, bad, limits):
    broken = Fixed(CAR, MAN)
    getattr(broken, name)[0, 1, :2] = bad
    evidence = seen(Fixed(CAR, MAN), broken, limits)
    found = evidence.figures
    assert (found.frames, found.non_finite, found.matched) == (2, 4, 0)
    assert found.max_box_error_px is None
    verdict = report(evidence, limits)
    assert (verdict.verdict, verdict.frames_needed) == ("failed", None)
    assert verdict.reason == "4 output values not finite"


WEAK = (*CAR[:4], 0.1, 0)
GONE = Fixed(WEAK)


@pytest.mark.parametrize("limits", [FP16_LIMITS, INT8_LIMITS])
def test_nothing_found_is_no_pass(limits):
    verdict = report(seen(Fixed(WEAK), Fixed(WEAK), limits), limits)
    assert (verdict.verdict, verdict.passed, verdict.frames_needed) == ("undecided", False, None)
    assert verdict.reason == (
        "no detection above 0.3 in 2 frames, so nothing was compared; lower --threshold"
    )
    assert figures(Fixed(WEAK), Fixed(WEAK), threshold=0).matched > 0


def test_in_fp32_the_best_are_compared_whatever_their_score():
    """A model that finds nothing is exported like any other; its best detections must agree."""
    weaker = Fixed((*CAR[:4], 0.0985, 0))
    evidence = seen(Fixed(WEAK), Fixed(WEAK), FP32_LIMITS)
    assert (evidence.figures.matched, report(evidence, FP32_LIMITS).verdict) == (4, "passed")
    verdict = report(seen(Fixed(WEAK), weaker, FP32_LIMITS), FP32_LIMITS)
    assert verdict.verdict == "failed"
    assert verdict.reason == "max score error 0.0015, allowed 0.001"
    many = [(*CAR[:4], 0.01 * n, 0) for n in range(1, LEAST_EXACT + 1)]  # each is two detections
    assert seen(Fixed(*many), Fixed(*many), FP32_LIMITS, FRAMES[:1]).figures.matched == LEAST_EXACT


def test_without_frames_nothing_is_known():
    verdict = report(seen(Fixed(CAR), Fixed(CAR), FP32_LIMITS, []), FP32_LIMITS)
    assert verdict.verdict == "undecided"
    assert "no detection above 0.3 in 0 frames" in verdict.reason


def test_every_model_sees_the_frames_as_its_own_spec_says():
    grey = Fixed(CAR, spec=replace(SPEC, mean=(0.5, 0.5, 0.5)))
    plain = Fixed(CAR)
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
        figures(Fixed(CAR), Fixed(CAR, spec=replace(SPEC, **other)))


def judged(limits, *others, frames=40, looks=1):
    """Give a candidate these detections frame by frame, and else those of the reference."""
    answers = iter(others)

    class Changing(Fixed):
        @override
        def __call__(self, images):
            other = next(answers, None)
            return other(images) if other else super().__call__(images)

    evidence = seen(Fixed(CAR), Changing(CAR), limits, frames * [FRAMES[0]])
    return report(evidence, limits, looks=looks)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ((*CAR[:2], 30.4, 15, 0.8, 0), ""),
        ((*CAR[:4], 0.8009, 0), ""),
        ((*CAR[:2], 30.51, 15, 0.8, 0), "max box error 0.51 px, allowed 0.5 px"),
        ((*CAR[:4], 0.8011, 0), "max score error 0.0011, allowed 0.001"),
        ((*CAR[:4], 0.8, 1), "max score error 0.7999, allowed 0.001"),  # 1e-4 for the car
        ((0, 0, 4, 4, 0.8, 0), "4 of 82 detections unmatched"),
        (
            (*CAR[:2], 31, 15, 0.7, 0),
            "max box error 1 px, allowed 0.5 px; max score error 0.1, allowed 0.001",
        ),
    ],
)
def test_in_fp32_one_detection_of_one_frame_decides(other, reason):
    verdict = judged(FP32_LIMITS, Fixed(other))
    assert verdict.figures.frames == 40  # every frame is looked at, whatever is found
    assert verdict.reason == reason
    assert (verdict.verdict, verdict.passed) == (("failed", False) if reason else ("passed", True))


def test_fp16_and_int8_are_judged_by_the_share_of_lost_detections():
    """By hand: 0 of 40 is at most 1 - 0.05 ** (1 / 40) = 7.22 %; 0 of 149 at most 1.99 %."""
    assert judged(INT8_LIMITS).verdict == "passed"
    assert judged(INT8_LIMITS).share.high == pytest.approx(0.0722, abs=1e-4)
    unsure = judged(FP16_LIMITS)
    assert unsure.verdict == "undecided"
    assert unsure.reason == (
        "0 of 40 detections lost (0.00%, 95% bounds 0.00% and 7.22%), allowed 2.00%; about "
        f"{unsure.frames_needed} more frames would decide"
    )
    assert 149 - 40 <= (unsure.frames_needed or 0) <= 1.1 * 149 - 40


@pytest.mark.parametrize("limits", [FP16_LIMITS, INT8_LIMITS])
def test_two_frames_of_one_detection_decide_nothing(limits):
    verdict = judged(limits, frames=2)
    assert (verdict.verdict, verdict.passed) == ("undecided", False)
    assert verdict.share.high == pytest.approx(1 - 0.05**0.5)


def test_lost_are_those_without_a_match_within_the_limits():
    """A pair that overlaps by less, or whose scores are farther apart, is lost as well."""
    nearer, farther = Fixed((10, 5, 27, 15, 0.8, 0)), Fixed((10, 5, 25.9, 15, 0.8, 0))
    surer, less = Fixed((*CAR[:4], 0.71, 0)), Fixed((*CAR[:4], 0.69, 0))
    verdict = judged(INT8_LIMITS, nearer, farther, surer, less, GONE)
    assert (verdict.share.lost, verdict.share.compared) == (3, 40)
    assert verdict.figures.unmatched == 1
    assert verdict.verdict == "undecided"
    failed = judged(INT8_LIMITS, *12 * [GONE])
    assert failed.verdict == "failed"
    assert failed.frames_needed is None
    assert failed.reason == f"{failed.share.describe()}, allowed 10.00%"
    assert failed.reason.startswith("12 of 40 detections lost (30.00%, 95% bounds 1")


def test_no_number_of_frames_decides_a_share_on_the_limit():
    verdict = judged(INT8_LIMITS, *4 * [GONE])
    assert (verdict.verdict, verdict.frames_needed) == ("undecided", None)
    assert verdict.reason.endswith("allowed 10.00%; more frames would not decide")


@pytest.mark.parametrize(
    ("answers", "frames", "verdict"),
    [
        ([], 80, "passed"),
        (5 * [GONE], 160, "passed"),
        (40 * [GONE], 40, "failed"),
        (32 * [GONE, *9 * [None]], 320, "undecided"),
    ],
)
def test_it_stops_as_soon_as_it_is_decided(answers, frames, verdict):
    """Four looks after 40, 80, 160 and 320 of 320 frames, each with a quarter of the 5 %.

    By hand: 1 - 0.0125 ** (1 / 40) = 10.4 %, 1 - 0.0125 ** (1 / 80) = 5.3 %.
    """
    found = judged(INT8_LIMITS, *answers, frames=320, looks=4)
    assert (found.figures.frames, found.verdict) == (frames, verdict)
