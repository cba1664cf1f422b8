import json
import math

import pytest

from edgedetr.distill.comparison.statistics import (
    Gain,
    paired_gain,
    std,
)


def test_the_interval_is_that_of_student_s_t():
    """Of 1, 2, 6 the mean is 3 and the variance 7; t of two degrees of freedom is 4.3027.

    Of -1 and 3 the mean is 1 and the standard error 2; t of one degree is 12.7062.
    """
    gain = paired_gain([21.0, 24.0, 30.0], [20.0, 22.0, 24.0])
    half = 4.302653 * math.sqrt(7 / 3)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((3.0, 3 - half, 3 + half))
    gain = paired_gain([19.0, 25.0], [20.0, 22.0])
    assert (gain.low, gain.high) == pytest.approx((1 - 25.41241, 1 + 25.41241))


def test_only_differences_count_not_the_spread_that_seeds_share():
    assert paired_gain([11.0, 51.0, 91.0], [10.0, 50.0, 90.0]) == Gain(1.0, 1.0, 1.0)


def test_one_pair_has_a_difference_and_no_interval():
    gain = paired_gain([21.5], [20.0])
    assert gain.mean == 1.5
    assert math.isnan(gain.low)
    assert math.isnan(gain.high)
    assert math.isnan(std([21.5]))


def test_a_figure_that_is_not_there_leaves_no_gain():
    gain = paired_gain([math.nan, 2.0], [1.0, 1.0])
    assert [math.isnan(v) for v in (gain.mean, gain.low, gain.high)] == [True] * 3


def test_the_figures_as_json(three_arms):
    found = json.loads(json.dumps(three_arms().as_dict(), allow_nan=False))
    assert list(found["arms"]) == ["none", "worse", "a+b"]
    assert found["arms"]["a+b"] == {
        "ap": [21.0, 24.0, 30.0],
        "ap50": [42.0, 48.0, 60.0],
        "mean": 25.0,
        "std": pytest.approx(math.sqrt(21)),  # (16 + 1 + 25) / 2
        "ms_per_step": 15.0,
    }
    assert found["gain"] == {
        "worse": pytest.approx({"mean": -1.0, "low": -3.484138, "high": 1.484138}),
        "a+b": pytest.approx({"mean": 3.0, "low": -3.572411, "high": 9.572411}),
    }
    assert (found["teacher_ap"], found["seeds"], found["steps"]) == (40.0, [0, 1, 2], 20)
    assert found["config"]["student"]["input_hw"] == [64, 96]
    assert (found["command"], found["machine"]) == ("a command", {"processor": "a processor"})


def test_what_cannot_be_told_is_null(comparison, run):
    one = comparison({"none": [run(math.nan, step_ms=())], "clock": [run(3.0)]}, teacher=math.nan)
    found = json.loads(json.dumps(one.as_dict(), allow_nan=False))
    assert found["arms"]["none"] == {
        "ap": [None],
        "ap50": [None],
        "mean": None,
        "std": None,
        "ms_per_step": None,
    }
    assert found["gain"]["clock"] == {"mean": None, "low": None, "high": None}
    assert found["teacher_ap"] is None
