"""A parity report as one self-contained HTML page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.export.verify.figures import counted
from edgedetr.pages.charts import DistributionChart, distribution_chart
from edgedetr.pages.pictures import jpeg_uri
from edgedetr.pages.rendering import State, Tile, rendered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.export.verify.activations import Activations
    from edgedetr.export.verify.findings import Evidence, FrameFigures, WorstFrame
    from edgedetr.export.verify.report import ParityReport
    from edgedetr.runtime.types import Detections

_TEMPLATE = Path(__file__).with_name("verify.html.jinja")

LEAST_ERROR = 1e-6
"""Left end of the axis of relative errors, which ends at 1; smaller errors have no bar."""


@dataclass(frozen=True)
class Box:
    """A box in source pixels, and what stands at it."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Picture:
    """A frame with the detections of the reference and the candidate.

    Attributes:
        figures: How they agree.
        uri: The image, JPEG as a data URI.
        width: Of the source image, in pixels.
        height: Of the source image, in pixels.
        layers: The reference's boxes, then the candidate's.
    """

    figures: FrameFigures
    uri: str
    width: int
    height: int
    layers: tuple[tuple[Box, ...], tuple[Box, ...]]


@dataclass(frozen=True)
class Bar:
    """A block's own error, its limit and its accumulated error, in per cent of the axis.

    The accumulated error is None where it is zero or unknown.
    """

    own: float
    limit: float
    carried: float | None


def page(report: ParityReport) -> str:
    """Write the page.

    Args:
        report: A report of `edgedetr.export.verify.compare.verify`.

    Returns:
        HTML with its style, charts and pictures inside; it loads nothing and runs no script.
    """
    evidence = report.evidence
    return rendered(
        _TEMPLATE,
        report=report,
        tiles=tiles(report),
        charts=charts(evidence) if evidence else [],
        pictures=pictures(evidence) if evidence else [],
        bars=bars(report.activations) if report.activations else [],
        counted=counted,
        axis=[(_place(10.0**power), f"1e{power}") for power in range(-6, 1)],
    )


def tiles(report: ParityReport) -> list[Tile]:
    """Sum up the verdict, the lost detections, the errors and the blocks."""
    found, share = report.figures, report.share
    states: dict[str, State] = {"passed": "good", "failed": "bad", "undecided": "undecided"}
    verdict = Tile(
        "Verdict",
        report.verdict,
        f"{found.matched} matched, {found.unmatched} unmatched in {counted(found.frames, 'frame')}",
        states[report.verdict],
    )
    bounds = "" if report.limits.exact else f", upper bound {share.high:.2%}"
    lost = Tile(
        "Lost detections",
        f"{share.share:.2%}",
        f"{share.lost} of {share.compared}{bounds}; {report.limits.lost_share:.2%} allowed",
    )
    errors = Tile(
        "Box and score error",
        f"{_number(found.p99_box_error_px, ' px')}, {_number(found.mean_score_error)}",
        f"p99 of the boxes, mean of the scores; match: {report.limits.describe()}",
    )
    return [verdict, lost, errors, _first_diverging(report.activations)]


def charts(evidence: Evidence) -> list[DistributionChart]:
    """Chart the distributions of the errors; none where every pair is equal."""
    wanted = (
        ("Box error", "pixels", "box_errors_px"),
        ("Score error", "score", "score_errors"),
    )
    found = []
    for title, unit, name in wanted:
        errors = evidence.joined(name)
        if not errors.size or np.percentile(errors, 99, method="inverted_cdf") <= 0:
            continue
        small = float(np.percentile(errors, 99)) < 1
        label = f"thousandths of a {unit.removesuffix('s')}" if small else unit
        rows = [("all pairs", "c1", errors * (1000 if small else 1))]
        found.append(distribution_chart(f"{title}, {label}", label, rows))
    return found


def pictures(evidence: Evidence) -> list[Picture]:
    """Lay out the worst frames."""
    return [_picture(frame, evidence.class_names) for frame in evidence.worst]


def bars(activations: Activations) -> list[Bar]:
    """Lay out the errors of the blocks on one logarithmic axis."""
    return [
        Bar(
            own=_place(block.own.relative),
            limit=_place(block.limit),
            carried=_place(block.carried) if block.carried else None,
        )
        for block in activations.blocks
    ]


def _first_diverging(activations: Activations | None) -> Tile:
    """Name the first diverging block."""
    name = "First diverging block"
    if activations is None or not activations.blocks:
        return Tile(name, "unknown", "no two graphs were compared")
    first = activations.first_diverging
    if first:
        return Tile(name, first, "its error is beyond what its precision explains", "bad")
    return Tile(name, "none", f"{counted(len(activations.blocks), 'block')} compared", "good")


def _place(error: float) -> float:
    """Return the place of a relative error, in per cent of the axis."""
    inside = min(max(error, LEAST_ERROR), 1.0)
    return round(100 * (1 - math.log10(inside) / math.log10(LEAST_ERROR)), 1)


def _picture(frame: WorstFrame, class_names: Sequence[str]) -> Picture:
    height, width = frame.image.shape[:2]
    reference, candidate = (_boxes(found, class_names) for found in frame.found)
    return Picture(frame.figures, jpeg_uri(frame.image), width, height, (reference, candidate))


def _boxes(found: Detections, class_names: Sequence[str]) -> tuple[Box, ...]:
    rows = zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    return tuple(
        Box(round(x0, 1), round(y0, 1), round(x1 - x0, 1), round(y1 - y0, 1), text)
        for (x0, y0, x1, y1), label, score in rows
        for text in (f"{class_names[label]} {score:.2f}",)
    )


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.3g}{unit}"
