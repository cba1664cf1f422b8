import math
from typing import Any

import pytest

from edgedetr.bench.study.plan import Arm, Key, Pair, Try
from edgedetr.bench.study.report import gain, probability_above_zero, report


def test_the_probability_is_students():
    """Of 1, 2, 3: t = 2 / (1 / sqrt 3); with 2 degrees P = 1/2 + t / (2 sqrt(2 + t^2))."""
    t = math.sqrt(12)
    wanted = 0.5 + t / (2 * math.sqrt(2 + t * t))
    assert wanted == pytest.approx(0.9629, abs=1e-4)
    assert probability_above_zero([1, 2, 3]) == pytest.approx(wanted)
    assert probability_above_zero([-1, -2, -3]) == pytest.approx(1 - wanted)
    assert probability_above_zero([-1, 0, 1]) == 0.5


def test_it_agrees_with_the_interval():
    """An interval of 95 % that begins at 0 leaves 2.5 % below."""
    half = 12.7062  # of Student's t with one degree, in standard errors
    mean, error = 1.0, 1 / half
    found = gain(runs(mean + error, mean - error), runs(0, 0))
    assert found["low"] == pytest.approx(0, abs=1e-4)
    assert found["probability"] == pytest.approx(0.975, abs=1e-4)


def test_without_spread_it_is_sure_and_of_one_seed_unknown():
    assert probability_above_zero([2.0, 2.0]) == 1
    assert probability_above_zero([-2.0, -2.0]) == 0
    assert probability_above_zero([0.0, 0.0]) == 0.5
    assert math.isnan(probability_above_zero([2.0]))
    assert gain(runs(3), runs(1)) == {
        "seeds": 1,
        "mean": 2,
        "low": None,
        "high": None,
        "probability": None,
    }


def test_a_gain_is_of_the_seeds_that_both_have():
    """21, 25 against 20, 22 of seeds 0 and 1: 1 and 3, 2 +- 12.706 * 1."""
    found = gain(runs(21, 25, 90), runs(20, 22))
    assert (found["seeds"], found["mean"]) == (2, 2)
    assert found["low"] == pytest.approx(2 - 12.706, abs=1e-3)
    assert found["high"] == pytest.approx(2 + 12.706, abs=1e-3)
    assert gain(runs(1), {})["mean"] is None


def runs(*scores):
    return {seed: record(ap) for seed, ap in enumerate(scores)}


def record(ap, steps=10):
    return {
        "ap": ap,
        "ap50": 2 * ap,
        "curve": [[steps, ap]],
        "learning_rate": 0.1,
        "weight": 1.0,
        "steps": steps,
        "step_ms": 100.0,
    }


def test_a_report_tells_arms_gains_times_and_what_is_missing():
    arms = {
        "none": Arm(),
        "long": Arm(length=2, tuned_as="none"),
        "clock": Arm(("clock",), over=("long",)),
    }
    tries = (Try(0.1),)
    pair = Pair("d", "t", "f", "p", arms, 10, 2, 2, tries, tries)
    records: dict[Key, dict[str, Any]] = {("x", "teacher", "teacher", 0): {"ap": 60.0}}
    scores = {"none": (20, 22), "long": (23, 23), "clock": (24,)}
    for arm, of_seeds in scores.items():
        for seed, ap in enumerate(of_seeds):
            records["x", arm, "final", seed] = record(ap, 20 if arm == "long" else 10)
    records["x", "none", "final", 1]["diverged"] = "the loss is not finite"
    found = report({"x": pair}, records)
    assert found["missing_runs"] == 3  # two of tuning, a seed of clock
    about = found["pairs"]["x"]
    assert (about["student"], about["teacher_ap"]) == ("f/p", 60)
    assert about["arms"]["none"]["mean"] == 21
    assert about["arms"]["none"]["diverged"] == 1
    assert about["arms"]["long"]["training_seconds"] == 2
    assert about["arms"]["none"]["curve_on_tuning_split"] == [[10, 21]]
    assert set(about["gain"]) == {"long", "clock"}
    assert {k: g["mean"] for k, g in about["gain"]["clock"].items()} == {"none": 4, "long": 1}
    assert about["gain"]["long"]["none"]["mean"] == 2
