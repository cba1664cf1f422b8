"""How much of a model may run in INT8, as a chart and a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.export.verify.limits import INT8_LIMITS
from edgedetr.pages.charts import LARGE, Series, line_chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.export.search.coverage_record import CoverageRecord, Step
    from edgedetr.pages.charts import LineChart

MARGIN = 0.1
"""Room above and below the lines, as a part of the chart's range."""


@dataclass(frozen=True)
class CoverageSection:
    """One search for the largest coverage.

    Attributes:
        title: The models.
        verdict: ``good``, ``bad`` or, where nothing could be measured, ``plain``.
        summary: What came of it.
        chart: Accuracy against coverage; None where nothing was measured.
        rows: A line a block: name, figures, and what became of it.
        command: What searched.
    """

    title: str
    verdict: str
    summary: str
    chart: LineChart | None
    rows: tuple[tuple[str, ...], ...]
    command: str


def coverage_section(record: CoverageRecord) -> CoverageSection:
    """Lay out what ``edgedetr export qdq --max-ap-drop`` measured."""
    return CoverageSection(
        title=f"{record.int8} from {record.model}",
        verdict=_verdict(record),
        summary=_summary(record),
        chart=_chart(record) if record.curve else None,
        rows=tuple(
            (*block.cells(), "INT8" if block.name in record.chosen else "float")
            for block in record.blocks
        ),
        command=record.command,
    )


def _verdict(record: CoverageRecord) -> str:
    if record.nothing_to_compare:
        return "plain"
    return "good" if record.is_worth_it else "bad"


def _summary(record: CoverageRecord) -> str:
    # older files say nothing themselves
    said = record.said or f"{record.coverage:.1%} of the multiply-accumulates may run in INT8"
    if record.nothing_to_compare:
        return f"INT8 was not made: {said}."
    if record.is_worth_it:
        return f"{said}."
    return f"INT8 is not worth it here: {said}."


def _chart(record: CoverageRecord) -> LineChart:
    """Draw AP over coverage as the search went on, and what broke the limit on its way.

    Where no AP was measured, draw the share of detections that are kept.
    """
    searched = [step for step in record.curve if step.rest == "fp32"]
    kept = sorted((s for s in searched if s.kept), key=lambda step: step.coverage)
    broke = {s.tried: s for s in searched if not s.kept and s.tried not in record.chosen}
    dots = {f"left out: {tried}": step for tried, step in broke.items()}
    dots |= {
        f"{'holds' if s.kept else 'loses too much'}: {s.tried}": s
        for s in record.curve
        if s.rest != "fp32"
    }
    x, y = _points(kept)
    best, limit, name, label = _levels(record)
    ends = np.array([0.0, 100.0])
    series = [
        Series("chosen so far", "c1", np.r_[0.0, x], np.r_[best, y]),
        Series("FP32", "c0 dashed", ends, np.full(2, best)),
        Series(name, "c4 dashed", ends, np.full(2, limit)),
    ]
    for number, (title, step) in enumerate(dots.items(), 2):
        series.append(Series(title, f"c{number % 8} dot", *_points([step])))
    heights = np.concatenate([s.y for s in series])
    room = MARGIN * float(np.ptp(heights)) or 1.0
    span = float(heights.min()) - room, float(heights.max()) + room
    labels = "INT8 coverage, % of multiply-accumulates", label
    return line_chart("Accuracy against INT8 coverage", series, labels, span, size=LARGE)


def _levels(record: CoverageRecord) -> tuple[float, float, str, str]:
    """Return the height of FP32 and of the limit, the limit's name and that of the axis."""
    if record.max_ap_drop is not None and record.fp32_ap is not None:
        limit = record.fp32_ap - record.max_ap_drop
        name = f"limit, {record.max_ap_drop:g} points below"
        return record.fp32_ap, limit, name, "COCO AP, %"
    allowed = 100 * INT8_LIMITS.lost_share
    return 100.0, 100 - allowed, f"limit, {allowed:g} % lost", "detections kept, %"


def _points(steps: Sequence[Step]) -> tuple[np.ndarray, np.ndarray]:
    heights = [100 * (1 - (s.lost_share or 0.0)) if s.ap is None else s.ap for s in steps]
    rows = [(100 * s.coverage, height) for s, height in zip(steps, heights, strict=True)]
    table = np.array(rows, np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
