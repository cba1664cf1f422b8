from dataclasses import replace

import pytest

from edgedetr.export.verify.limits import FP16_LIMITS, FP32_LIMITS, INT8_LIMITS, Gate, Limits


def test_the_coarser_precision_gives_the_limits():
    assert Gate().limits("fp32", "fp32") == Gate().limits("fp32") == FP32_LIMITS
    assert Gate().limits("fp32", "fp16") == Gate().limits("fp16", "fp32") == FP16_LIMITS
    assert Gate().limits("int8", "fp16") == Gate().limits("fp32", "int8") == INT8_LIMITS


def test_only_fp32_is_exact():
    assert (FP32_LIMITS.exact, FP16_LIMITS.exact, INT8_LIMITS.exact) == (True, False, False)
    assert (FP32_LIMITS.box_error_px, FP32_LIMITS.score_error) == (0.5, 1e-3)
    assert [limits.lost_share for limits in (FP32_LIMITS, FP16_LIMITS, INT8_LIMITS)] == [
        0,
        0.02,
        0.1,
    ]
    assert FP32_LIMITS.score_error < FP16_LIMITS.score_error < INT8_LIMITS.score_error
    assert FP16_LIMITS.iou > INT8_LIMITS.iou


@pytest.mark.parametrize(
    "given", [{"iou": 0.5}, {"score_error": 0.0}, {"lost_share": 0.0}, {"box_error_px": 2.0}]
)
def test_a_gate_replaces_only_what_it_names(given):
    assert Gate(**given).limits("fp32") == replace(FP32_LIMITS, **given)
    assert Gate(**given).limits("int8") == replace(INT8_LIMITS, **given)


def test_where_a_share_may_be_lost_it_is_tested():
    assert Gate(lost_share=0.5).limits("fp32") == replace(FP32_LIMITS, lost_share=0.5, exact=False)
    assert Gate(lost_share=0.5).limits("int8") == replace(INT8_LIMITS, lost_share=0.5)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (FP32_LIMITS, "sides within 0.5 px, scores within 0.001"),
        (FP16_LIMITS, "IoU >= 0.95, scores within 0.01"),
        (Limits(0.8, 0.1, 0.1, box_error_px=2), "IoU >= 0.8, sides within 2 px, scores within 0.1"),
        (Limits(0.0, 0.1, 0.1), "scores within 0.1"),
    ],
)
def test_limits_describe_when_a_detection_is_kept(limits, text):
    assert limits.describe() == text
