"""How far a detection may move before it counts as lost, and how many may be lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedetr.graph.exact import Precision


@dataclass(frozen=True)
class Limits:
    """The limits of a gate.

    A detection is kept where the other model has one of its class within ``iou``, ``score_error``
    and ``box_error_px``; otherwise it is lost.

    Attributes:
        iou: Lowest IoU of the two boxes, in [0, 1].
        score_error: Largest difference of the two scores.
        lost_share: Largest share, in [0, 1], of detections that may be lost.
        box_error_px: Largest shift of a side of the box, in source pixels; None for any.
        exact: Whether nothing may be lost in any frame; otherwise the share is tested, see
            `edgedetr.export.verify.lost_share`.
    """

    iou: float
    score_error: float
    lost_share: float
    box_error_px: float | None = None
    exact: bool = False

    def describe(self) -> str:
        """Describe when a detection is kept."""
        parts = [f"IoU >= {self.iou:g}"] if self.iou else []
        if self.box_error_px is not None:
            parts.append(f"sides within {self.box_error_px:g} px")
        return ", ".join([*parts, f"scores within {self.score_error:g}"])


FP32_LIMITS = Limits(iou=0.0, score_error=1e-3, lost_share=0.0, box_error_px=0.5, exact=True)
"""For two models in FP32, which differ by rounding only."""
FP16_LIMITS = Limits(iou=0.95, score_error=0.01, lost_share=0.02)
"""For models of which one is FP16 and none INT8 or FP8: eleven significant bits are left."""
INT8_LIMITS = Limits(iou=0.8, score_error=0.1, lost_share=0.1)
"""For models of which one is INT8 or FP8: single weak detections may come and go."""
LIMITS: dict[Precision, Limits] = {
    "fp32": FP32_LIMITS,
    "fp16": FP16_LIMITS,
    "fp8": INT8_LIMITS,
    "int8": INT8_LIMITS,
}
"""The limits by the coarser precision of two models, finest first."""


@dataclass(frozen=True)
class Gate:
    """Limits that replace the defaults of `LIMITS`.

    Attributes:
        iou: See `Limits`.
        score_error: Likewise.
        lost_share: Likewise.
        box_error_px: Likewise.
    """

    iou: float | None = None
    score_error: float | None = None
    lost_share: float | None = None
    box_error_px: float | None = None

    def limits(self, *precisions: Precision) -> Limits:
        """Fill up with the defaults of the coarsest of these precisions.

        Where a share may be lost although the default is exact, that share is tested.
        """
        given = {k: v for k, v in vars(self).items() if v is not None}
        default = LIMITS[max(precisions, key=list(LIMITS).index)]
        return replace(default, **given, exact=default.exact and not self.lost_share)
