import json
import math

import numpy as np
import pytest

from edgedetr.distill.comparison.page import as_text, comparison_page, interval_note, number, table
from edgedetr.distill.comparison.statistics import (
    Arm,
    Comparison,
    Gain,
    Run,
    mean,
    paired_gain,
    std,
)

CONFIG = {
    "data": {"root": "data/road", "val_split": "val"},
    "student": {"family": "d_fine", "preset": "edge-tiny", "input_hw": (64, 96)},
    "teacher": "teacher.safetensors",
    "epochs": 2,
    "batch_size": 8,
    "eval_every": 1,
}


def run(ap, *, step_ms=(10.0,), memory=math.nan):
    return Run(
        ap=ap,
        ap50=2 * ap,
        steps=np.array([10.0, 20.0]),
        curve=np.array([ap / 2, ap]),
        step_ms=np.array(step_ms),
        peak_memory_mib=memory,
    )


def comparison(arms, planned=None, teacher=40.0):
    seeds = len(next(iter(arms.values())))
    return Comparison(
        arms=tuple(Arm(name, tuple(runs)) for name, runs in arms.items()),
        seeds=tuple(range(seeds)),
        planned_seeds=planned or seeds,
        teacher_ap=teacher,
        config=CONFIG,
        command="a command",
        machine={"processor": "a processor"},
    )


def three_arms():
    return comparison(
        {
            "none": [run(20.0), run(22.0), run(24.0)],
            "worse": [run(19.0), run(22.0), run(22.0)],
            "a+b": [
                run(21.0, step_ms=(12.0, 30.0)),
                run(24.0, step_ms=(15.0,)),
                run(30.0, step_ms=(14.0, 16.0)),
            ],
        }
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


def test_the_figures_as_json():
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


def test_what_cannot_be_told_is_null():
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


def test_the_memory_of_a_gpu_is_the_most_of_any_seed():
    found = comparison({"none": [run(1.0, memory=100.0), run(2.0, memory=120.0)]})
    assert found.as_dict()["arms"]["none"]["peak_memory_mib"] == 120.0
    assert table(found)[0].memory == "120"
    assert "GPU memory" in comparison_page(found, "x")
    assert "GPU memory" not in comparison_page(three_arms(), "x")


def test_the_table_has_the_highest_mean_first():
    rows = table(three_arms())
    assert [row.name for row in rows] == ["a+b", "none", "worse"]
    assert (rows[0].ap, rows[0].gain, rows[0].interval) == (
        "25.0 ± 4.6",
        "+3.0",
        f"{number(-3.6)} to +9.6",
    )
    assert (rows[0].ms_per_step, rows[0].cost) == ("15.0", "1.50")
    assert (rows[1].gain, rows[1].interval) == ("reference", "")
    assert (rows[2].gain, rows[2].interval) == (number(-1.0), f"{number(-3.5)} to +1.5")


def test_the_text_has_every_arm_and_the_teacher():
    first_words = [line.split()[0] for line in as_text(three_arms()).splitlines()]
    assert first_words == ["arm", "a+b", "none", "worse", "teacher"]


def test_the_page_shows_every_arm_with_its_curve_and_its_band():
    page = comparison_page(three_arms(), "a comparison")
    for name in ("none", "worse", "a+b"):
        assert page.count(f"</i>{name}</th>") == 1
        assert page.count(f"</svg>{name}</li>") == 1
        assert f"{name}: p50" in page
    for style in ("c0", "c1", "c2"):
        assert page.count(f'<path class="line {style}" d="M52') == 1
        assert page.count(f'<path class="band {style}"') == 1
        assert page.count(f'<path class="bars {style}"') == 1
    assert "Student&#39;s t at 95 %, over the 3 differences" in page
    assert "40.0 % on the same frames" in page
    assert "are trained; the command" not in page
    assert "http" not in page


def test_the_page_of_one_seed_claims_no_interval():
    page = comparison_page(comparison({"none": [run(20.0)], "clock": [run(19.0)]}), "x")
    assert "one seed: no interval" in page
    assert "nothing tells a gain from the chance" in page
    assert 'class="band' not in page
    assert f"{number(-1.0)} points" in page


def test_the_page_tells_that_seeds_are_missing():
    page = comparison_page(comparison({"none": [run(20.0)]}, planned=3), "x")
    assert "1 of 3 seeds are trained" in page


def test_the_page_stands_what_was_not_measured():
    page = comparison_page(comparison({"none": [run(math.nan, step_ms=())]}, teacher=math.nan), "x")
    assert "nan" not in page


@pytest.mark.parametrize(
    ("seeds", "wanted"),
    [(1, "no interval"), (2, "over the 2 differences"), (5, "may be chance")],
)
def test_the_note_says_what_the_interval_is_worth(seeds, wanted):
    assert wanted in interval_note(seeds)


def test_a_figure_that_rounds_to_zero_has_no_minus():
    assert number(-0.04, "+.1f") == "+0.0"
    assert mean([1.0, 2.0]) == 1.5
