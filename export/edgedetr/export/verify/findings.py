"""The results of a comparison frame by frame: the errors of all pairs, and the worst frames."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.export.verify.figures import Figures, figures_from_pairs
from edgedetr.export.verify.lost_share import ERROR_RATE, LostShare, lost_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.export.verify.limits import Limits
    from edgedetr.export.verify.matching import Pairs
    from edgedetr.runtime.types import Detections

WORST = 3
"""How many of the worst frames are kept."""


@dataclass(frozen=True)
class FrameFigures:
    """How two models agree on one frame.

    Attributes:
        frame: Its name, or its number from 0 on.
        matched: Pairs of detections.
        unmatched: Detections of either model without a match.
        max_box_error_px: The largest shift of a side of a box, in source pixels; 0 without pairs.
        max_score_error: The largest difference of the scores of a pair; 0 without pairs.
        min_iou: The lowest IoU of a pair; 1 without pairs.
        non_finite: NaN and infinite numbers in the outputs of both models; with any, nothing is
            matched.
        tied: Whether the models were compared with the same query selection because scores tied.
    """

    frame: str
    matched: int
    unmatched: int
    max_box_error_px: float
    max_score_error: float
    min_iou: float
    non_finite: int
    tied: bool = False

    @property
    def badness(self) -> tuple[int, int, float]:
        """Order frames: outputs that are not finite, unmatched detections, then IoU and scores."""
        return self.non_finite, self.unmatched, 1 - self.min_iou + self.max_score_error


@dataclass(frozen=True, eq=False)
class WorstFrame:
    """A frame on which two models differ most, with the detections of both.

    Attributes:
        figures: How they agree.
        image: RGB, uint8 (H, W, 3).
        found: The detections of either model that count; empty where an output is not finite.
    """

    figures: FrameFigures
    image: NDArray[np.uint8]
    found: tuple[Detections, Detections]


class Evidence:
    """Collects the results of two models, frame by frame.

    Attributes:
        class_names: The classes, in the order of the labels.
        frames: Figures of every frame, in order.
        pairs: The pairs of every frame whose outputs are finite.
        worst: The frames on which they differ most, worst first, at most `WORST`.
    """

    def __init__(self, class_names: Sequence[str], frame_names: Sequence[str] = ()) -> None:
        self.class_names = tuple(class_names)
        self.frames: list[FrameFigures] = []
        self.pairs: list[Pairs] = []
        self.worst: list[WorstFrame] = []
        self._names = frame_names

    @property
    def worst_figures(self) -> list[dict[str, object]]:
        """Return the figures of the worst frames as plain values."""
        return [asdict(frame.figures) for frame in self.worst]

    @property
    def figures(self) -> Figures:
        """Return the figures over all frames."""
        return figures_from_pairs(
            self.pairs,
            frames=len(self.frames),
            non_finite=sum(frame.non_finite for frame in self.frames),
            tied_frames=sum(frame.tied for frame in self.frames),
        )

    def share(self, limits: Limits, error_rate: float = ERROR_RATE) -> LostShare:
        """Bound the share of lost detections; frames that are not finite do not count."""
        lost = [pairs.lost(limits) for pairs in self.pairs]
        return lost_share(lost, [pairs.compared for pairs in self.pairs], error_rate)

    def joined(self, name: str) -> NDArray[np.float64]:
        """Return an attribute of all pairs of all frames, float64 (M,)."""
        return np.concatenate([np.zeros(0), *(getattr(p, name) for p in self.pairs)])

    def add(
        self,
        image: NDArray[np.uint8],
        pairs: Pairs | None,
        found: tuple[Detections, Detections],
        non_finite: int = 0,
        *,
        tied: bool = False,
    ) -> None:
        """Add a frame; ``pairs`` is None where an output is not finite."""
        index = len(self.frames)
        name = self._names[index] if index < len(self._names) else str(index)
        some = pairs is not None and len(pairs) > 0
        figures = FrameFigures(
            frame=name,
            matched=len(pairs) if pairs else 0,
            unmatched=pairs.unmatched if pairs is not None else 0,
            max_box_error_px=float(pairs.box_errors_px.max()) if pairs and some else 0.0,
            max_score_error=float(pairs.score_errors.max()) if pairs and some else 0.0,
            min_iou=float(pairs.ious.min()) if pairs and some else 1.0,
            non_finite=non_finite,
            tied=tied,
        )
        self.frames.append(figures)
        if pairs is not None:
            self.pairs.append(pairs)
        self.worst.append(WorstFrame(figures, image, found))
        self.worst.sort(key=lambda frame: frame.figures.badness, reverse=True)
        del self.worst[WORST:]
