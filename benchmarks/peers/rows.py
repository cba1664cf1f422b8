"""A row of the comparison, and how two or more ways of one task are timed against each other."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transformers import PreTrainedModel

    from edgedetr.distill.model import Model

OURS = "EdgeDETR"
WARM_UP = 2
"""Rounds that do not count."""


@dataclass(frozen=True)
class Row:
    """One way of a task.

    Attributes:
        task: What is done, for example ``frame to boxes``.
        way: What does it, with its version.
        ms: Median time of one turn, in milliseconds; None where it could not run.
        ratio: Its time over ours, the median over the rounds; above 1 where we are faster.
        low: The 5th percentile of that over the rounds.
        high: The 95th.
        note: What differs from ours in its result, or why it could not run.
    """

    task: str
    way: str
    ms: float | None
    ratio: float | None
    low: float | None
    high: float | None
    note: str


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Call everything in turn, round after round; milliseconds of each call that counts."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + WARM_UP):
        for name, call in ways.items():
            start = perf_counter_ns()
            call()
            if round_ >= WARM_UP:
                spent[name].append((perf_counter_ns() - start) / 1e6)
    return spent


def timed(
    task: str, ways: Mapping[str, Callable[[], object]], notes: Mapping[str, str], rounds: int
) -> list[Row]:
    """Time each way in turns, so that a busy machine slows all of them alike.

    Args:
        task: Name of the task.
        ways: Name to what does it once; `OURS` among them.
        notes: Name to a note.
        rounds: How often each is called.
    """
    spent, rows = in_turns(ways, rounds), []
    for name, times in spent.items():
        ratios = np.divide(times, spent[OURS])
        low, high = np.percentile(ratios, [5, 95]).tolist()
        note = notes.get(name, "")
        rows.append(Row(task, name, median(times), median(ratios.tolist()), low, high, note))
    return rows


def as_published(model: Model) -> PreTrainedModel:
    """Return a network of transformers' own class and code with a model's weights."""
    network = model.network
    make: Callable[[object], PreTrainedModel] = type(network)
    made = make(network.config)
    made.load_state_dict(network.state_dict())
    return made


def not_run(task: str, way: str, why: str) -> Row:
    """Return the row of what could not run."""
    return Row(task, way, None, None, None, None, why)


def missing(package: str) -> str:
    """Return why a package does not import; empty where it does."""
    try:
        import_module(package)
    except ImportError as error:
        return f"does not import here: {error}"
    return ""


def named(package: str, what: str = "") -> str:
    """Name a package with its version."""
    try:
        found = version(package)
    except PackageNotFoundError:
        found = ""
    return " ".join(part for part in (package, found, what) if part)
