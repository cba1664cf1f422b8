"""Judge a report by budgets that a team agreed on, written in TOML.

::

    verdict = "passed"
    frames = { min = 180 }

    [models."student.int8"]
    ap = { min = 0.40, min_ratio = 0.7 }     # of the teacher's AP
    "latency_ms.p99" = { max = 33.0 }
    file_mib = { max = 2.0 }

A model or figure that the report lacks breaks its budget: what was not measured holds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import SettingsError
from edgedetr.runtime.settings import load_settings

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from edgedetr.bench.report.record import ReportRecord


@dataclass(frozen=True)
class Budget:
    """Bounds of one figure, in its own unit; those of a ratio are of the teacher's figure.

    Attributes:
        min: The least.
        max: The most.
        min_ratio: The least, as a share of the teacher's.
        max_ratio: The most, as a share of the teacher's.
    """

    min: float | None = None
    max: float | None = None
    min_ratio: float | None = None
    max_ratio: float | None = None

    def __post_init__(self) -> None:
        if {self.min, self.max, self.min_ratio, self.max_ratio} == {None}:
            raise ValueError("a budget needs one of min, max, min_ratio, max_ratio")


@dataclass(frozen=True)
class Budgets:
    """All budgets of a report.

    Attributes:
        verdict: What the gates must have said; any verdict when empty.
        frames: How many frames the models must have been measured on.
        models: Name of a model to its figures' budgets, by dotted path.
    """

    models: dict[str, dict[str, Budget]] = field(default_factory=dict)
    verdict: str = ""
    frames: Budget | None = None


def read_budgets(path: str | os.PathLike[str]) -> Budgets:
    """Read a file of budgets.

    Raises:
        SettingsError: If it is no TOML, or has an unknown key or a wrong value.
    """
    budgets = load_settings(Budgets, path)
    if not (any(budgets.models.values()) or budgets.verdict or budgets.frames):
        raise SettingsError(f"{path}: it has no budget, which would accept every report")
    return budgets


def broken_budgets(report: ReportRecord, budgets: Budgets) -> list[str]:
    """Return one line for each budget that a report breaks, in the order of the file."""
    broken = []
    if budgets.verdict and report.verdict != budgets.verdict:
        broken.append(f"verdict: {report.verdict}, wanted {budgets.verdict}")
    if budgets.frames:
        broken += [f"frames: {text}" for text in _beyond(report.frames, None, budgets.frames)]
    for name, figures in budgets.models.items():
        broken += _of_model(name, figures, report)
    return broken


def _of_model(name: str, budgets: dict[str, Budget], report: ReportRecord) -> Iterator[str]:
    figures = report.models.get(name)
    if figures is None:
        yield f"{name}: not in the report, which has {', '.join(report.models)}"
        return
    for figure, budget in budgets.items():
        if figure not in figures:
            near = get_close_matches(figure, figures, 1)
            yield f"{name} {figure}: not measured" + (f"; did you mean {near[0]}?" if near else "")
            continue
        reference = report.teacher().get(figure)
        for text in _beyond(figures[figure], reference, budget):
            yield f"{name} {figure}: {text}"


def _beyond(value: float, reference: float | None, budget: Budget) -> Iterator[str]:
    """Yield what a value breaks."""
    if budget.min is not None and value < budget.min:
        yield f"{value:.6g}, wanted at least {budget.min:.6g}"
    if budget.max is not None and value > budget.max:
        yield f"{value:.6g}, wanted at most {budget.max:.6g}"
    if budget.min_ratio is None and budget.max_ratio is None:
        return
    if not reference:
        yield f"{value:.6g}, and the teacher has no such figure to compare it with"
        return
    ratio, of = value / reference, f"of the teacher's {reference:.6g}"
    if budget.min_ratio is not None and ratio < budget.min_ratio:
        yield f"{ratio:.4g} {of}, wanted at least {budget.min_ratio:.4g}"
    if budget.max_ratio is not None and ratio > budget.max_ratio:
        yield f"{ratio:.4g} {of}, wanted at most {budget.max_ratio:.4g}"
