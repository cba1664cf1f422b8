"""The share of detections that are lost (`Limits` says when), as a test of known error rate.

Detections of one frame are not independent: where a query moves, others follow. Frames are. So the
bounds are those of Clopper and Pearson (Biometrika 26, 1934) for the *effective* number of
detections (Korn and Graubard, Survey Methodology 24, 1998): their number over the design effect,
which the spread of the share from frame to frame gives, and less for few frames, by Student's t.
Few losses cannot show how they cluster, so that a correlation of at least `LEAST_CORRELATION`
between detections of a frame is assumed.

A test that adds frames until it is decided looks several times: the `ERROR_RATE` is that of all
looks together, split between them (Bonferroni), half of it for the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import betaincinv, stdtrit

from edgedetr.export.verify.figures import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

Verdict = Literal["passed", "failed", "undecided"]

ERROR_RATE = 0.05
"""How often a bound may lie on the wrong side of the true share, one-sided, over all looks."""
FIRST_LOOK = 40
"""After how many frames the share is tested first; the next looks are at twice as many each."""
LEAST_CORRELATION = 0.1
"""Correlation of two detections of a frame that is assumed at least."""

_MOST_TIMES = 1000  # how many times as many frames are worth suggesting


@dataclass(frozen=True)
class LostShare:
    """The share of lost detections, with its confidence bounds.

    Attributes:
        lost: Detections that are lost.
        compared: Detections that were compared, a pair counted once.
        frames: Frames that both models ran on.
        effective: The effective number of independent detections.
        low: Lower bound; the true share is below it in one of ``1 / error_rate`` such tests.
        high: Upper bound; likewise above it.
        error_rate: The error rate of each bound.
    """

    lost: int
    compared: int
    frames: int
    effective: float
    low: float
    high: float
    error_rate: float

    @property
    def share(self) -> float:
        """The share in these frames, in [0, 1]; 0 where nothing was compared."""
        return self.lost / max(1, self.compared)

    def verdict(self, allowed: float) -> Verdict:
        """Tell whether both bounds are within a limit, both beyond it, or neither."""
        if self.compared and self.high <= allowed:
            return "passed"
        return "failed" if self.low > allowed else "undecided"

    def holds(self, allowed: float) -> bool:
        """Tell whether the upper bound is within a limit, or nothing is lost at all.

        For searches, which have no more frames to add.
        """
        return not self.lost or self.verdict(allowed) == "passed"

    def frames_needed(self, allowed: float) -> int | None:
        """Estimate how many more frames would decide; None where even a thousand times would not.

        The same share and the same clustering are assumed for them.
        """
        if not self.compared:
            return None
        times = 1.0
        while times < _MOST_TIMES:
            times *= 1.1
            low, high = _bounds(self.share, times * self.effective, self.error_rate)
            if high <= allowed or low > allowed:
                return math.ceil((times - 1) * self.frames)
        return None

    def describe(self) -> str:
        """Describe the share and its bounds."""
        return (
            f"{self.lost} of {counted(self.compared, 'detection')} lost ({self.share:.2%}, "
            f"{1 - self.error_rate:.0%} bounds {self.low:.2%} and {self.high:.2%})"
        )


def looks_at(frames: int) -> dict[int, float]:
    """Return after how many frames to test, with the error rate of each look.

    The last look, at all frames, has half of the whole rate: what is decided there could not be
    decided with fewer.

    >>> looks_at(30), looks_at(160)
    ({30: 0.05}, {40: 0.0125, 80: 0.0125, 160: 0.025})
    """
    early = []
    look = FIRST_LOOK
    while look < frames:
        early.append(look)
        look *= 2
    if not early:
        return {frames: ERROR_RATE}
    return {**dict.fromkeys(early, ERROR_RATE / 2 / len(early)), frames: ERROR_RATE / 2}


def lost_share(
    lost: Sequence[float], compared: Sequence[float], error_rate: float = ERROR_RATE
) -> LostShare:
    """Bound the share of lost detections.

    Args:
        lost: Detections of each frame that are lost, (F,).
        compared: Detections of each frame that were compared, (F,).
        error_rate: Of each of the two one-sided bounds.
    """
    totals = np.array([(x, n) for x, n in zip(lost, compared, strict=True) if n], np.float64)
    x, n = totals.reshape(-1, 2).T
    if not n.sum():
        return LostShare(0, 0, len(lost), 0.0, 0.0, 1.0, error_rate)
    share = float(x.sum() / n.sum())
    effective = float(n.sum()) / _design_effect(x, n, share) * _of_few(n, error_rate)
    low, high = _bounds(share, effective, error_rate)
    return LostShare(int(x.sum()), int(n.sum()), len(lost), effective, low, high, error_rate)


def _design_effect(x: np.ndarray, n: np.ndarray, share: float) -> float:
    """Return by what the variance of the share exceeds that of independent detections."""
    # the mean size of the frame in which a detection finds itself
    assumed = 1 + (float((n**2).sum() / n.sum()) - 1) * LEAST_CORRELATION
    if len(n) < 2 or not 0 < share < 1:
        return assumed
    spread = len(n) / (len(n) - 1) * float(((x - share * n) ** 2).sum())
    return max(assumed, spread / (share * (1 - share) * float(n.sum())))


def _of_few(n: np.ndarray, error_rate: float) -> float:
    """Return by what the variance counts for less because few frames estimated it."""
    if len(n) < 2:
        return 1 / float(n.sum())
    of_all, of_frames = (stdtrit(count - 1, 1 - error_rate) for count in (n.sum(), len(n)))
    return float(of_all / of_frames) ** 2


def _bounds(share: float, effective: float, error_rate: float) -> tuple[float, float]:
    """Return Clopper and Pearson's one-sided bounds, for a number that need not be whole."""
    lost, kept = share * effective, (1 - share) * effective
    low = float(betaincinv(lost, kept + 1, error_rate)) if lost > 0 else 0.0
    high = float(betaincinv(lost + 1, kept, 1 - error_rate)) if kept > 0 else 1.0
    return low, high
