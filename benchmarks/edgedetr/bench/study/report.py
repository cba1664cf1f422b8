"""What a study found: every arm's scores, and its gains with interval and probability."""

from __future__ import annotations

import math
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtr

from edgedetr.bench.study.plan import runs_of
from edgedetr.distill.comparison.statistics import paired_gain, std

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedetr.bench.study.plan import Key, Pair

Records = dict[int, dict[str, Any]]
"""Finished runs of an arm by seed."""


def report(pairs: Mapping[str, Pair], records: Mapping[Key, dict[str, Any]]) -> dict[str, Any]:
    """Return what was found of each pair, and how many runs are missing."""
    return {
        "missing_runs": sum(run.key not in records for run in runs_of(pairs)),
        "pairs": {name: _pair(name, pair, records) for name, pair in pairs.items()},
    }


def probability_above_zero(differences: Sequence[float]) -> float:
    """Return the probability that the mean gain is above 0, by Student's t; NaN of one pair.

    It is that of the interval: 0.975 where the interval of 95 % just begins at 0.
    """
    values = np.asarray(differences, np.float64)
    spread = std(values)
    if math.isnan(spread):
        return math.nan
    if spread == 0:
        return 0.5 + 0.5 * float(np.sign(values[0]))
    t = values.mean() / (spread / math.sqrt(len(values)))
    return float(stdtr(len(values) - 1, t))


def gain(arm: Records, reference: Records) -> dict[str, float | int | None]:
    """Return the gain of an arm over another, of the seeds that both have.

    What no seed or a single one does not give is None.
    """
    seeds = sorted(arm.keys() & reference.keys())
    if not seeds:
        return {"seeds": 0, "mean": None, "low": None, "high": None, "probability": None}
    mine, theirs = ([runs[seed]["ap"] for seed in seeds] for runs in (arm, reference))
    found = paired_gain(mine, theirs)
    chance = probability_above_zero([a - b for a, b in zip(mine, theirs, strict=True)])
    return {
        "seeds": len(seeds),
        "mean": found.mean,
        "low": _known(found.low),
        "high": _known(found.high),
        "probability": _known(chance),
    }


def _pair(name: str, pair: Pair, records: Mapping[Key, dict[str, Any]]) -> dict[str, Any]:
    runs = {
        arm: {
            seed: records[key]
            for seed in range(pair.seeds)
            if (key := (name, arm, "final", seed)) in records
        }
        for arm in pair.arms
    }
    teacher = records.get((name, "teacher", "teacher", 0))
    first = next(iter(pair.arms))
    return {
        "student": f"{pair.family}/{pair.preset}",
        "teacher": pair.teacher,
        "teacher_ap": teacher and teacher["ap"],
        "batch": pair.batch,
        "arms": {arm: _arm(found) for arm, found in runs.items() if found},
        "gain": {
            arm: {
                other: gain(runs[arm], runs[other])
                for other in dict.fromkeys((first, *about.over))
                if other in runs
            }
            for arm, about in pair.arms.items()
            if arm != first and runs[arm]
        },
    }


def _arm(runs: Records) -> dict[str, Any]:
    found = [runs[seed] for seed in sorted(runs)]
    scores = [run["ap"] for run in found]
    curves = [run["curve"] for run in found if run["curve"]]
    return {
        "seeds": sorted(runs),
        "ap": scores,
        "ap50": [run["ap50"] for run in found],
        "mean": mean(scores),
        "std": _known(std(scores)),
        "diverged": sum("diverged" in run for run in found),
        "learning_rate": found[0]["learning_rate"],
        "weight": found[0]["weight"],
        "steps": found[0]["steps"],
        "step_ms": mean(run["step_ms"] for run in found),
        "training_seconds": mean(run["step_ms"] * run["steps"] / 1e3 for run in found),
        "curve_on_tuning_split": np.mean(curves, 0).tolist() if curves else [],
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
