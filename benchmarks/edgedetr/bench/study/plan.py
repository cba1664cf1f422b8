"""What a study trains: pairs of student and teacher, arms, tries of tuning, and seeds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Key: TypeAlias = tuple[str, str, str, int]
"""Pair, arm, kind and number of a run."""

TUNING_SEED = 100
"""Seed of the runs that tune; no run that is reported has it."""


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        methods: File names under ``edgedetr.distill.methods``.
        inherit: Whether the student starts from its teacher's weights.
        settings: What differs from a method's defaults, by its name.
        length: How many times as long as the other arms it trains.
        tuned_as: The arm whose tuning it takes over; empty for one that is tuned itself.
        over: The arms that its gain is computed over, besides the pair's first.
    """

    methods: tuple[str, ...] = ("none",)
    inherit: bool = False
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    length: float = 1.0
    tuned_as: str = ""
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Try:
    """One setting that tuning tries.

    Attributes:
        learning_rate: Peak.
        weight: Factor of every method's terms.
    """

    learning_rate: float
    weight: float = 1.0


@dataclass(frozen=True)
class Pair:
    """A student, its teacher, and how they are compared.

    Attributes:
        data: Name of the packed frames.
        teacher: Checkpoint, from the project's root.
        family: The student's.
        preset: The student's.
        arms: By name.
        steps: Of an arm of length 1.
        batch: Images a step.
        seeds: How many.
        plain_tries: What is tried of arms without a teacher's losses.
        tries: What is tried of the others, as many.
    """

    data: str
    teacher: str
    family: str
    preset: str
    arms: Mapping[str, Arm]
    steps: int
    batch: int
    seeds: int
    plain_tries: tuple[Try, ...]
    tries: tuple[Try, ...]

    def __post_init__(self) -> None:
        if len(self.plain_tries) != len(self.tries):
            raise ValueError(
                f"{len(self.plain_tries)} tries of plain arms and {len(self.tries)} of the others "
                "are no fair comparison; give both as many"
            )

    def tries_of(self, arm: str) -> tuple[Try, ...]:
        """Return what is tried of an arm; nothing of one that takes over another's tuning."""
        found = self.arms[arm]
        if found.tuned_as:
            return ()
        return self.plain_tries if found.methods == ("none",) else self.tries

    def steps_of(self, arm: str) -> int:
        """Return how long an arm trains."""
        return round(self.steps * self.arms[arm].length)


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        pair: Name of the pair.
        arm: Name of the arm.
        kind: ``tune`` is scored on the tuning split, ``final`` on the test split; ``teacher`` is
            the teacher on the test split.
        number: Of the try, or the seed.
    """

    pair: str
    arm: str
    kind: str
    number: int

    @property
    def key(self) -> Key:
        """What tells runs apart."""
        return self.pair, self.arm, self.kind, self.number

    @property
    def seed(self) -> int:
        """Of weights, order of images and noise."""
        return TUNING_SEED if self.kind == "tune" else self.number


def runs_of(pairs: Mapping[str, Pair]) -> Iterator[Run]:
    """Give every run by priority: a pair's tuning, then its seeds one by one; pair after pair."""
    for name, pair in pairs.items():
        yield Run(name, "teacher", "teacher", 0)
        for arm in pair.arms:
            for index in range(len(pair.tries_of(arm))):
                yield Run(name, arm, "tune", index)
        for seed in range(pair.seeds):
            for arm in pair.arms:
                yield Run(name, arm, "final", seed)


def best_try(pair: Pair, run: Run, records: Mapping[Key, Any]) -> Try | None:
    """Return what a run trains with; None while the tuning that it needs is not finished."""
    if run.kind == "teacher":
        return pair.plain_tries[0]
    tuned = pair.arms[run.arm].tuned_as or run.arm
    tries = pair.tries_of(tuned)
    if run.kind == "tune":
        return tries[run.number]
    scores = [
        record["ap"]
        for index in range(len(tries))
        if (record := records.get((run.pair, tuned, "tune", index))) is not None
    ]
    return tries[scores.index(max(scores))] if len(scores) == len(tries) else None


def shortened(pair: Pair, factor: float, arms: Sequence[str] | None = None) -> Pair:
    """Give a pair with a factor of its steps and some of its arms.

    Raises:
        UsageError: If an arm is unknown, or takes over the tuning of one that is left out.
    """
    unknown = [arm for arm in arms or () if arm not in pair.arms]
    if unknown:
        raise UsageError(f"no arm {unknown[0]!r}; there are {', '.join(pair.arms)}")
    kept = {name: arm for name, arm in pair.arms.items() if not arms or name in arms}
    for name, arm in kept.items():
        if arm.tuned_as and arm.tuned_as not in kept:
            raise UsageError(f"arm {name!r} trains as {arm.tuned_as!r} was tuned; take that too")
    return replace(pair, steps=max(4, round(factor * pair.steps)), arms=kept)
