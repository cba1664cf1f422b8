"""A comparison as one HTML page that needs nothing but itself, and as lines for a terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.distill.comparison.statistics import LEVEL_PERCENT, mean, std
from edgedetr.pages.charts import LARGE, Series, distribution_chart, line_chart
from edgedetr.pages.rendering import Tile, rendered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.comparison.statistics import Arm, Comparison, Gain
    from edgedetr.pages.charts import DistributionChart, LineChart

_TEMPLATE = Path(__file__).with_name("comparison.html.jinja")
_NONE = "\N{EN DASH}"
_COLOURS = 8
"""Of the style sheet."""


@dataclass(frozen=True)
class ArmRow:
    """One arm in the table, as text.

    Attributes:
        name: The arm.
        style: CSS class that gives its colour.
        ap: Mean and standard deviation.
        seeds: AP of each seed.
        ap50: Mean and standard deviation.
        gain: Mean difference to the reference.
        interval: Of the gain.
        ms_per_step: Median.
        cost: The step's time as a factor of the reference's.
        memory: Peak of the GPU's in MiB; empty without one.
    """

    name: str
    style: str
    ap: str
    seeds: tuple[str, ...]
    ap50: str
    gain: str
    interval: str
    ms_per_step: str
    cost: str
    memory: str


def comparison_page(comparison: Comparison, name: str) -> str:
    """Write the page.

    Args:
        comparison: What it shows.
        name: Its heading.
    """
    return rendered(
        _TEMPLATE,
        name=name,
        comparison=comparison,
        lead=_lead(comparison),
        tiles=_tiles(comparison),
        rows=table(comparison),
        teacher_ap=number(comparison.teacher_ap),
        interval_note=interval_note(len(comparison.seeds)),
        curves=_curves(comparison),
        costs=_costs(comparison),
    )


def table(comparison: Comparison) -> list[ArmRow]:
    """Return the arms, the highest mean AP first."""
    gains, reference = comparison.gains, comparison.reference
    rows = []
    for index, arm in sorted(enumerate(comparison.arms), key=lambda pair: _worst_last(pair[1])):
        gain = gains.get(arm.name)
        memory = arm.peak_memory_mib
        rows.append(
            ArmRow(
                name=arm.name,
                style=_style(index),
                ap=_spread(arm.ap),
                seeds=tuple(number(ap) for ap in arm.ap),
                ap50=_spread(arm.ap50),
                gain=number(gain.mean, "+.1f") if gain else "reference",
                interval=_interval(gain) if gain else "",
                ms_per_step=number(arm.ms_per_step),
                cost=number(arm.ms_per_step / reference.ms_per_step, ".2f"),
                memory=number(memory, ".0f") if math.isfinite(memory) else "",
            )
        )
    return rows


def as_text(comparison: Comparison) -> str:
    """Write the table for a terminal."""
    lines = [("arm", "AP %", "AP50 %", "gain", f"{LEVEL_PERCENT} %", "ms per step")]
    lines += [(r.name, r.ap, r.ap50, r.gain, r.interval, r.ms_per_step) for r in table(comparison)]
    if math.isfinite(comparison.teacher_ap):
        lines.append(("teacher", number(comparison.teacher_ap), "", "", "", ""))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])],
        ).rstrip()
        for line in lines
    )


def interval_note(seeds: int) -> str:
    """Explain how the interval of a gain was computed and what it is worth."""
    if seeds == 1:
        return (
            "With one seed there is no interval: a gain cannot be told from the chance of the "
            "initial weights and the order of the frames."
        )
    return (
        f"The interval is that of Student's t at {LEVEL_PERCENT} %, over the {seeds} differences "
        "of runs that share a seed: where it holds 0, the gain may be chance. It speaks of seeds "
        "only, not of other data."
    )


def number(value: float, form: str = ".1f") -> str:
    """Write a figure, or a dash where there is none.

    >>> number(1.25, "+.2f")
    '+1.25'
    """
    if not math.isfinite(value):
        return _NONE
    text = format(value, form)
    if not float(text):
        text = format(0.0, form)  # no minus before a zero
    return text.replace("-", "\N{MINUS SIGN}")


def _lead(comparison: Comparison) -> str:
    student, data = comparison.config["student"], comparison.config["data"]
    height, width = student["input_hw"]
    return (
        f"{student['family']}/{student['preset']} at {height} x {width} on {data['root']}: "
        f"{_count(len(comparison.arms), 'arm')}, "
        f"{_count(len(comparison.seeds), 'seed')} each, {_count(comparison.steps, 'step')} per run."
    )


def _tiles(comparison: Comparison) -> list[Tile]:
    best, reference = min(comparison.arms, key=_worst_last), comparison.reference
    beside = "" if best is reference else f"; {reference.name} has {number(mean(reference.ap))} %"
    tiles = [Tile("Highest mean AP", f"{number(mean(best.ap))} %", best.name + beside)]
    if comparison.gains:
        arm = min(comparison.arms[1:], key=_worst_last)
        gain = comparison.gains[arm.name]
        interval = _interval(gain)
        detail = f"{arm.name}, {interval}" if interval else f"{arm.name}, one seed: no interval"
        cost = number(arm.ms_per_step / reference.ms_per_step, ".2f")
        times = f"{number(arm.ms_per_step)} ms against {number(reference.ms_per_step)} ms"
        tiles += [
            Tile(
                f"Largest gain over {reference.name}", f"{number(gain.mean, '+.1f')} points", detail
            ),
            Tile(f"Step time relative to {reference.name}", f"{cost} times", times),
        ]
    if math.isfinite(comparison.teacher_ap):
        tiles.append(
            Tile("Teacher's AP", f"{number(comparison.teacher_ap)} %", "on the same frames")
        )
    return tiles


def _curves(comparison: Comparison) -> LineChart:
    """Draw the mean AP of each arm over the steps, and from the lowest to the highest seed."""
    series = []
    for index, arm in enumerate(comparison.arms):
        seeds = np.stack([run.curve for run in arm.runs])
        band = np.stack([seeds.min(axis=0), seeds.max(axis=0)]) if len(seeds) > 1 else None
        series.append(Series(arm.name, _style(index), arm.runs[0].steps, seeds.mean(axis=0), band))
    return line_chart("AP on the validation split", series, ("step", "COCO AP, %"), size=LARGE)


def _costs(comparison: Comparison) -> DistributionChart | None:
    """Draw how long the steps of each arm took."""
    rows = [
        (arm.name, _style(index), arm.step_ms)
        for index, arm in enumerate(comparison.arms)
        if len(arm.step_ms)
    ]
    return distribution_chart("Time of a training step", "ms per step", rows) if rows else None


def _style(index: int) -> str:
    return f"c{index % _COLOURS}" + (" dashed" if index >= _COLOURS else "")


def _worst_last(arm: Arm) -> float:
    return math.inf if math.isnan(mean(arm.ap)) else -mean(arm.ap)


def _spread(values: Sequence[float]) -> str:
    spread = std(values)
    return number(mean(values)) + (
        f" \N{PLUS-MINUS SIGN} {number(spread)}" if math.isfinite(spread) else ""
    )


def _interval(gain: Gain) -> str:
    if not math.isfinite(gain.low):
        return ""
    return f"{number(gain.low, '+.1f')} to {number(gain.high, '+.1f')}"


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")
