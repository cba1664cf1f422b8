"""Comparisons made by hand."""

import math

import numpy as np
import pytest

from edgedetr.distill.comparison.statistics import Arm, Comparison, Run

CONFIG = {
    "data": {"root": "data/road", "val_split": "val"},
    "student": {"family": "d_fine", "preset": "edge-tiny", "input_hw": (64, 96)},
    "teacher": "teacher.safetensors",
    "epochs": 2,
    "batch_size": 8,
    "eval_every": 1,
}


def make_run(ap, *, step_ms=(10.0,), memory=math.nan):
    return Run(
        ap=ap,
        ap50=2 * ap,
        steps=np.array([10.0, 20.0]),
        curve=np.array([ap / 2, ap]),
        step_ms=np.array(step_ms),
        peak_memory_mib=memory,
    )


def make_comparison(arms, planned=None, teacher=40.0):
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


def make_three_arms():
    return make_comparison(
        {
            "none": [make_run(20.0), make_run(22.0), make_run(24.0)],
            "worse": [make_run(19.0), make_run(22.0), make_run(22.0)],
            "a+b": [
                make_run(21.0, step_ms=(12.0, 30.0)),
                make_run(24.0, step_ms=(15.0,)),
                make_run(30.0, step_ms=(14.0, 16.0)),
            ],
        }
    )


@pytest.fixture
def run():
    """Makes a run of two evaluations, the last with this AP."""
    return make_run


@pytest.fixture
def comparison():
    """Makes a comparison of the runs of arms by name."""
    return make_comparison


@pytest.fixture
def three_arms():
    """Makes a comparison of three arms with three seeds."""
    return make_three_arms
