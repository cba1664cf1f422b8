"""How much of a model may run in INT8, as a chart and a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.distill.pages.charts import LARGE, Series, line_chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.pages.charts import LineChart
    from edgedetr.export.coverage import CoverageRecord, Step

MARGIN = 0.1
"""Room above and below the lines, as a part of the chart's range."""


@dataclass(frozen=True)
class CoverageSection:
    """One search for the largest coverage.

    Attributes:
        title: The models.
        verdict: ``good`` or ``bad``.
        summary: What came of it.
        chart: AP against coverage.
        rows: A line a block: name, figures, and what became of it.
        command: What searched.
    """

    title: str
    verdict: str
    summary: str
    chart: LineChart
    rows: tuple[tuple[str, ...], ...]
    command: str


def coverage_section(record: CoverageRecord) -> CoverageSection:
    """Lay out what ``edgedetr export qdq --max-ap-drop`` measured."""
    return CoverageSection(
        title=f"{record.int8} from {record.model}",
        verdict="good" if record.is_worth_it else "bad",
        summary=_summary(record),
        chart=_chart(record),
        rows=tuple(
            (*block.cells(), "INT8" if block.name in record.chosen else "float")
            for block in record.blocks
        ),
        command=record.command,
    )


def _summary(record: CoverageRecord) -> str:
    drop = record.fp32_ap - record.ap
    found = (
        f"{record.coverage:.1%} of the multiply-accumulates run in INT8, the rest in "
        f"{record.rest.upper()}, with AP {record.ap:.2f} ({drop:+.2f} points lost), on "
        f"{record.frames} frames on which FP32 has {record.fp32_ap:.2f}; "
        f"allowed were {record.max_ap_drop:g} points."
    )
    return found if record.is_worth_it else f"INT8 is not worth it: {found}"


def _chart(record: CoverageRecord) -> LineChart:
    """Draw AP over coverage as the search went on, and what broke the limit on its way."""
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
    limit = record.fp32_ap - record.max_ap_drop
    ends = np.array([0.0, 100.0])
    series = [
        Series("chosen so far", "c1", np.r_[0.0, x], np.r_[record.fp32_ap, y]),
        Series("FP32", "c0 dashed", ends, np.full(2, record.fp32_ap)),
        Series(f"limit, {record.max_ap_drop:g} points below", "c4 dashed", ends, np.full(2, limit)),
    ]
    for number, (name, step) in enumerate(dots.items(), 2):
        series.append(Series(name, f"c{number % 8} dot", *_points([step])))
    heights = np.concatenate([s.y for s in series])
    room = MARGIN * float(np.ptp(heights)) or 1.0
    span = float(heights.min()) - room, float(heights.max()) + room
    labels = "INT8 coverage, % of multiply-accumulates", "COCO AP, %"
    return line_chart("Accuracy against INT8 coverage", series, labels, span, size=LARGE)


def _points(steps: Sequence[Step]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array([(100 * s.coverage, s.ap) for s in steps], np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
