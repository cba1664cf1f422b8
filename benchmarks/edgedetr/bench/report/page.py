"""The report as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.bench.report.agreement import MIN_IOU, MIN_SCORE
from edgedetr.bench.report.coverage import coverage_section
from edgedetr.bench.report.devices import device_rows
from edgedetr.bench.report.figures import (
    latency_charts,
    model_styles,
    precision_recall_charts,
    reliability_charts,
    training_charts,
)
from edgedetr.bench.report.pictures import SURE_SCORE
from edgedetr.bench.report.slice_table import differences, error_rows, slice_rows
from edgedetr.bench.report.slices import FALSE_A_FRAME
from edgedetr.bench.report.table import comparison
from edgedetr.bench.report.verdict import headline, tiles
from edgedetr.pages.rendering import rendered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.bench.report.contents import Report
    from edgedetr.bench.report.pictures import Picture

_TEMPLATE = Path(__file__).with_name("report.html.jinja")


def page(
    report: Report,
    pictures: Sequence[Picture],
    worst: Sequence[Sequence[Picture]],
    class_names: Sequence[str],
) -> str:
    """Write the page.

    Args:
        report: The contents.
        pictures: Frames with boxes.
        worst: The frames of ``report.worst_frames``, with each shown model's errors.
        class_names: The classes, in the order of the models' labels.

    Returns:
        HTML with its style, charts and pictures inside. It loads nothing; its one script, which
        sorts tables, lies in it, and the page is whole without it.
    """
    return rendered(
        _TEMPLATE,
        report=report,
        headline=headline(report),
        passed=[check.models for check in report.parity if check.passed],
        tiles=tiles(report),
        rows=comparison(report),
        slices=slice_rows(report),
        differences=differences(report),
        errors=error_rows(report),
        false_a_frame=FALSE_A_FRAME,
        styles=model_styles(report),
        training=training_charts(report),
        precision_recall=precision_recall_charts(report, class_names),
        reliability=reliability_charts(report),
        latency=latency_charts(report),
        coverage=[coverage_section(record) for record in report.coverage if record.curve],
        devices=device_rows(report.devices),
        pictures=pictures,
        worst=worst,
        min_score=MIN_SCORE,
        min_iou=MIN_IOU,
        sure_score=SURE_SCORE,
    )
