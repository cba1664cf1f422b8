"""Give the same object the same number from frame to frame, with ByteTrack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedetr.runtime.types import Detections

NEW_TRACK_SCORE = 0.5
"""Lowest score of a detection that may start a track; lower ones only continue one."""
LOST_NS = 500_000_000
"""How long a track lives without a detection."""
LEAST_PERIOD_NS = 1_000_000
"""Of a source: the steps over a gap are made one by one."""
_END_NS = 2**64


class Tracker:
    """Numbers objects from 1 on; a number is never used again.

    Each class is tracked on its own, because a DETR may find one object as two classes at once.
    The library's motion model makes one step per call, so the steps of frames that were dropped
    are made up for: otherwise a fast object would be lost behind a gap.

    Args:
        period_ns: Time between two frames of the source, from `LEAST_PERIOD_NS` on.

    Raises:
        UsageError: If the period is shorter, or the tracking library is not installed.
    """

    def __init__(self, period_ns: int) -> None:
        if period_ns < LEAST_PERIOD_NS:
            raise UsageError(
                f"tracking takes at most {1e9 / LEAST_PERIOD_NS:g} frames per second; the period "
                f"is {period_ns} ns, give at least {LEAST_PERIOD_NS}"
            )
        try:
            from edgefirst.tracker import ByteTrack
        except ImportError as error:
            raise UsageError(
                "tracking needs edgefirst-tracker: pip install 'edgedetr[tracker]'"
            ) from error
        self._new_tracker = ByteTrack
        self._trackers: dict[int, Any] = {}
        self._period_ns = period_ns
        self._last_ns: int | None = None
        self._numbers: dict[str, int] = {}
        self._count = 0

    def update(self, detections: Detections, timestamp_ns: int) -> NDArray[np.int64]:
        """Continue and start tracks.

        Args:
            detections: What was found in a frame.
            timestamp_ns: When that was captured; not before the frame of the last call.

        Returns:
            The number of each detection's track, 0 where none was started; int64 (N,).

        Raises:
            UsageError: If the time is negative or from 2^64 ns on; no track is changed.
        """
        if not 0 <= timestamp_ns < _END_NS:
            raise UsageError(
                f"a frame of time {timestamp_ns} ns cannot be tracked; give times from 0 to 2^64"
            )
        ids = np.zeros(len(detections), np.int64)
        for label in set(detections.labels.tolist()) - self._trackers.keys():
            self._trackers[label] = self._new_tracker(
                high_conf=NEW_TRACK_SCORE, lifespan_ns=LOST_NS
            )
        self._make_up_for(timestamp_ns)
        for label, tracker in self._trackers.items():
            chosen = np.flatnonzero(detections.labels == label)
            found = _step(
                tracker, detections.boxes[chosen], detections.scores[chosen], timestamp_ns
            )
            for place, track in zip(chosen, found, strict=True):
                if track is not None:
                    ids[place] = self._number(track.uuid)
        self._last_ns = timestamp_ns
        self._forget()
        return ids

    def _make_up_for(self, timestamp_ns: int) -> None:
        """Step over the frames between the last one and this one."""
        if self._last_ns is None:
            return
        gap_ns = min(timestamp_ns - self._last_ns, LOST_NS)
        for _ in range(round(gap_ns / self._period_ns) - 1):
            self._last_ns += self._period_ns
            for tracker in self._trackers.values():
                _step(tracker, np.empty((0, 4), np.float32), np.empty(0, np.float32), self._last_ns)

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            self._count += 1
            self._numbers[name] = self._count
        return self._numbers[name]

    def _forget(self) -> None:
        """Drop the names of tracks that have ended."""
        alive = {t.info.uuid for each in self._trackers.values() for t in each.get_active_tracks()}
        self._numbers = {name: n for name, n in self._numbers.items() if name in alive}


def _step(
    tracker: Any,  # noqa: ANN401 - the library has no types
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    timestamp_ns: int,
) -> list[Any]:
    labels = np.zeros(len(boxes), np.uintp)
    found: list[Any] = tracker.update(boxes, scores, labels, timestamp_ns)
    return found
