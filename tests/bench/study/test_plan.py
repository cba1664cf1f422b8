from dataclasses import replace

import pytest

from edgedetr.bench.study.plan import Arm, Pair, Run, Try, best_try, runs_of, shortened
from edgedetr.runtime.errors import UsageError

PAIR = Pair(
    data="d",
    teacher="t",
    family="f",
    preset="p",
    arms={"none": Arm(), "clock": Arm(("clock",)), "long": Arm(length=2, tuned_as="none")},
    steps=10,
    batch=2,
    seeds=2,
    plain_tries=(Try(0.1), Try(0.2)),
    tries=(Try(0.1, 1), Try(0.1, 3)),
)


def test_runs_are_the_teacher_then_the_tuning_then_seed_by_seed():
    keys = [run.key[1:] for run in runs_of({"x": PAIR})]
    assert keys == [
        ("teacher", "teacher", 0),
        ("none", "tune", 0),
        ("none", "tune", 1),
        ("clock", "tune", 0),
        ("clock", "tune", 1),
        *((arm, "final", seed) for seed in (0, 1) for arm in PAIR.arms),
    ]


def test_every_arm_is_tuned_by_as_many_tries():
    with pytest.raises(ValueError, match="2 tries of plain arms and 1 of the others"):
        replace(PAIR, tries=PAIR.tries[:1])


def test_an_arm_trains_as_it_was_tuned_best_and_waits_until_then():
    records = {("x", "none", "tune", 0): {"ap": 3.0}}
    final, long = Run("x", "none", "final", 0), Run("x", "long", "final", 0)
    assert best_try(PAIR, final, records) is None
    records["x", "none", "tune", 1] = {"ap": 4.0}
    assert best_try(PAIR, final, records) == Try(0.2)
    assert best_try(PAIR, long, records) == Try(0.2)
    assert best_try(PAIR, Run("x", "clock", "tune", 1), {}) == Try(0.1, 3)


def test_a_study_may_be_short_and_of_some_arms():
    pair = shortened(PAIR, 0.5, ["none", "long"])
    assert (list(pair.arms), pair.steps_of("none"), pair.steps_of("long")) == (
        ["none", "long"],
        5,
        10,
    )
    with pytest.raises(UsageError, match="no arm 'x'; there are none, clock, long"):
        shortened(PAIR, 1, ["x"])
    with pytest.raises(UsageError, match="'long' trains as 'none' was tuned; take that too"):
        shortened(PAIR, 1, ["long"])
