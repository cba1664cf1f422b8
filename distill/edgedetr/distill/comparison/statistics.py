"""The same student trained in several ways with several seeds: what the figures say.

Average precisions are COCO's, in per cent. What is not defined (an empty split, the spread of one
seed) is NaN, and null in JSON.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit

from edgedetr.runtime.files import without_nan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

LEVEL_PERCENT = 95
"""Of the interval of a gain."""


@dataclass(frozen=True, eq=False)
class Run:
    """One finished training run.

    Attributes:
        ap: AP of the last evaluation.
        ap50: AP50 of the last evaluation.
        steps: When it was evaluated, float64 (E,).
        curve: AP of these evaluations, float64 (E,).
        step_ms: How long each training step took, float64 (S,); empty where nobody measured.
        peak_memory_mib: Of the GPU; NaN without one.
    """

    ap: float
    ap50: float
    steps: NDArray[np.float64]
    curve: NDArray[np.float64]
    step_ms: NDArray[np.float64]
    peak_memory_mib: float


@dataclass(frozen=True)
class Gain:
    """How much higher the AP of an arm is than the reference's, in points.

    Attributes:
        mean: Of the differences of the pairs that share a seed.
        low: Lower end of its interval.
        high: Upper end.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Arm:
    """The runs of one way to train, one a seed, in the order of the seeds."""

    name: str
    runs: tuple[Run, ...]

    @property
    def ap(self) -> list[float]:
        """AP of each seed."""
        return [run.ap for run in self.runs]

    @property
    def ap50(self) -> list[float]:
        """AP50 of each seed."""
        return [run.ap50 for run in self.runs]

    @property
    def step_ms(self) -> NDArray[np.float64]:
        """How long every step of every seed took."""
        return np.concatenate([run.step_ms for run in self.runs])

    @property
    def ms_per_step(self) -> float:
        """Median over every step of every seed."""
        return float(np.median(self.step_ms)) if len(self.step_ms) else math.nan

    @property
    def peak_memory_mib(self) -> float:
        """Of the GPU, the most of any seed; NaN without one."""
        return max(run.peak_memory_mib for run in self.runs)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was trained, and the results.

    Attributes:
        arms: The first is the reference.
        seeds: What each arm was trained with.
        planned_seeds: How many there will be.
        teacher_ap: AP of the teacher on the same split; NaN without one.
        config: The settings that all runs share.
        command: The command that made it.
        machine: What it ran on.
    """

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    planned_seeds: int
    teacher_ap: float
    config: Mapping[str, Any]
    command: str
    machine: Mapping[str, str | float]

    @property
    def reference(self) -> Arm:
        """What the other arms are compared with."""
        return self.arms[0]

    @property
    def gains(self) -> dict[str, Gain]:
        """The gain of each arm but the reference, by name."""
        return {arm.name: paired_gain(arm.ap, self.reference.ap) for arm in self.arms[1:]}

    @property
    def steps(self) -> int:
        """Training steps of every run."""
        return int(self.reference.runs[0].steps[-1])

    def as_dict(self) -> dict[str, object]:
        """Return it as it is written to JSON."""
        plain: dict[str, object] = without_nan(
            {
                "arms": {arm.name: _arm_figures(arm) for arm in self.arms},
                "gain": {name: asdict(gain) for name, gain in self.gains.items()},
                "teacher_ap": self.teacher_ap,
                "seeds": list(self.seeds),
                "planned_seeds": self.planned_seeds,
                "steps": self.steps,
                "config": dict(self.config),
                "command": self.command,
                "machine": dict(self.machine),
            }
        )
        return plain


def mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Average.

    >>> mean([20.0, 22.0, 27.0])
    23.0
    """
    return float(np.mean(values))


def std(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the standard deviation of a sample (n - 1); NaN for a single value.

    >>> std([1.0, 3.0, 5.0])
    2.0
    """
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def paired_gain(values: Sequence[float], reference: Sequence[float]) -> Gain:
    """Compare figures that share seeds: the mean difference and its interval by Student's t.

    The differences count as drawn from a normal distribution; the interval is then right for any
    number of pairs, and wide for few: its half is 9.0 standard deviations of two, 2.5 of three.
    Of one pair there is none.

    Args:
        values: One a seed.
        reference: One a seed, in the same order.
    """
    differences = np.asarray(values, np.float64) - np.asarray(reference, np.float64)
    middle, pairs = mean(differences), len(differences)
    if pairs < 2 or not np.isfinite(differences).all():
        return Gain(middle, math.nan, math.nan)
    error = std(differences) / math.sqrt(pairs)
    half = float(stdtrit(pairs - 1, (1 + LEVEL_PERCENT / 100) / 2)) * error
    return Gain(middle, middle - half, middle + half)


def _arm_figures(arm: Arm) -> dict[str, object]:
    figures: dict[str, object] = {
        "ap": arm.ap,
        "ap50": arm.ap50,
        "mean": mean(arm.ap),
        "std": std(arm.ap),
        "ms_per_step": arm.ms_per_step,
    }
    if math.isfinite(arm.peak_memory_mib):
        figures["peak_memory_mib"] = arm.peak_memory_mib
    return figures
