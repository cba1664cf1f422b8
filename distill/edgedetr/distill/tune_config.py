"""Settings of a search over settings: what varies, how, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgedetr.distill.config_ranges import MOST_SEED, MOST_STEPS, check_range
from edgedetr.runtime.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEYS = ("low", "high", "log", "step", "choices")


@dataclass(frozen=True)
class Span:
    """What a setting may be: a range of numbers, or choices.

    Attributes:
        low: Lower end; whole numbers are tried where both ends are whole numbers.
        high: Upper end, which it may be.
        log: Whether equal factors are equally likely.
        step: Way between numbers that are tried; 0 tries any.
        choices: Values instead of a range; empty for a range.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float = 0
    choices: tuple[Any, ...] = ()

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that must be possible for all of it to be."""
        return self.choices or (self.low, self.high)


@dataclass(frozen=True)
class TuneConfig:
    """A search by trials, each a run.

    Attributes:
        space: What each setting that varies may be, by its key:
            ``"optimizer.learning_rate" = { low = 1e-4, high = 3e-3, log = true }`` or
            ``"data.augment" = { choices = ["flip", "strong"] }``.
        metric: What is to be large.
        trials: How many there are.
        steps: Optimizer steps of all trials together, after which none begins; 0 for no limit.
        unpruned: The first trials, which all run to their end. A later one ends early when an
            evaluation is worse than the median of those before it at the same step.
        seed: Of what is tried.
    """

    space: dict[str, Any] = field(default_factory=dict)
    metric: Literal["ap", "ap50"] = "ap"
    trials: int = 20
    steps: int = 0
    unpruned: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("trials", self.trials, 1, MOST_STEPS)
        check_range("steps", self.steps, 0, MOST_STEPS)
        check_range("unpruned", self.unpruned, 1, MOST_STEPS)
        check_range("seed", self.seed, 0, MOST_SEED)
        spans_of(self.space)

    @property
    def spans(self) -> dict[str, Span]:
        """What each setting may be, by its dotted key."""
        return spans_of(self.space)


def spans_of(space: Mapping[str, Any], prefix: str = "") -> dict[str, Span]:
    """Read a space, whose keys are dotted or tables in tables.

    Raises:
        ValueError: If a setting has neither a range nor choices, or a wrong one.
    """
    found: dict[str, Span] = {}
    for key, given in space.items():
        name = f"{prefix}{key}"
        if not isinstance(given, dict) or not given:
            raise ValueError(
                f"space.{name}: wanted {{ low, high }} or {{ choices }}, found {given!r}"
            )
        if any(isinstance(value, dict) for value in given.values()):
            found |= spans_of(given, f"{name}.")
        else:
            found[name] = _span(name, given)
    return found


def _span(name: str, given: Mapping[str, Any]) -> Span:
    for key in given:
        if key not in _KEYS:
            raise ValueError(f"space.{name}: unknown key {key!r}{nearest(key, _KEYS)}")
    if "choices" in given:
        choices = given["choices"]
        if len(given) > 1 or not isinstance(choices, (list, tuple)) or not choices:
            raise ValueError(f"space.{name}: choices must be a list, and stand alone")
        return Span(choices=tuple(choices))
    numbers = [given.get("low"), given.get("high"), given.get("step", 0)]
    if any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers):
        raise ValueError(f"space.{name}: low, high and step must be numbers, found {dict(given)}")
    low, high, step = numbers
    log = given.get("log", False)
    if not low < high or step < 0 or (log and (low <= 0 or step)):
        raise ValueError(
            f"space.{name}: low must be less than high; log wants a positive low and no step"
        )
    return Span(low, high, bool(log), step)
