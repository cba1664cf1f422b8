"""The figures of a comparison of two models, in pixels and scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.export.verify.matching import Pairs


@dataclass(frozen=True)
class Figures:
    """The figures of a comparison.

    Errors are None where nothing was matched.

    Attributes:
        frames: Images that both models ran on.
        matched: Pairs of detections; see `edgedetr.export.verify.matching.match`.
        unmatched: Detections of either model without a match in the other.
        unmatched_share: Their share of matched and unmatched together; 0 where there is neither.
        max_box_error_px: The largest shift of a side of a box, in source pixels.
        p99_box_error_px: Its 99th percentile over the pairs.
        max_score_error: The largest difference of the scores of a pair.
        mean_score_error: Its mean over the pairs.
        mean_score_drop: Mean of the reference's score less the candidate's over the pairs.
        max_score_drop: The largest such drop; negative where every score rose.
        min_iou: The lowest IoU of a pair.
        non_finite: NaN and infinite numbers in the outputs of both models. Frames with any are
            not matched.
        tied_frames: Frames on which the models selected among tied queries, and were compared
            with the same selection; see `edgedetr.export.verify.query_ties`.
    """

    frames: int
    matched: int
    unmatched: int
    unmatched_share: float
    max_box_error_px: float | None
    p99_box_error_px: float | None
    max_score_error: float | None
    mean_score_error: float | None
    mean_score_drop: float | None
    max_score_drop: float | None
    min_iou: float | None
    non_finite: int
    tied_frames: int = 0

    def summary(self) -> str:
        """Summarize them in a line."""
        errors = (
            f", max box error {as_text(self.max_box_error_px)} px, max score error "
            f"{as_text(self.max_score_error)}"
        )
        ties = f", {counted(self.tied_frames, 'frame')} with tied queries"
        return (
            f"{counted(self.frames, 'frame')}: {self.matched} matched, {self.unmatched} unmatched"
            f"{errors if self.matched else ''}{ties if self.tied_frames else ''}"
        )


def figures_from_pairs(
    pairs: Sequence[Pairs], frames: int, non_finite: int, tied_frames: int = 0
) -> Figures:
    """Sum up the pairs of each of ``frames`` frames."""
    unmatched = sum(p.unmatched for p in pairs)
    box, drop, error, overlap = (
        np.concatenate([np.zeros(0), *(getattr(p, name) for p in pairs)])
        for name in ("box_errors_px", "score_drops", "score_errors", "ious")
    )
    matched = len(box)
    return Figures(
        frames=frames,
        matched=matched,
        unmatched=unmatched,
        unmatched_share=unmatched / max(1, matched + unmatched),
        max_box_error_px=float(box.max()) if matched else None,
        p99_box_error_px=float(np.percentile(box, 99)) if matched else None,
        max_score_error=float(error.max()) if matched else None,
        mean_score_error=float(error.mean()) if matched else None,
        mean_score_drop=float(drop.mean()) if matched else None,
        max_score_drop=float(drop.max()) if matched else None,
        min_iou=float(overlap.min()) if matched else None,
        non_finite=non_finite,
        tied_frames=tied_frames,
    )


def as_text(value: float | None, digits: int = 3) -> str:
    """Write a figure; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}g}"


def counted(count: int, noun: str) -> str:
    """Write a number of things, with the plural in s.

    >>> counted(1, "frame"), counted(0, "frame")
    ('1 frame', '0 frames')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
