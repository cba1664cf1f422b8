"""Play a recording as a camera would deliver it: late frames are dropped, not queued."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.runtime.clock import MonotonicClock
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.sources.capture import Capture
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    from edgedetr.runtime.clock import Clock, StopFlag
    from edgedetr.runtime.sources.recordings import Recording, VideoRecording


class PacedSource:
    """Plays a recording at a steady rate, as a camera would deliver it.

    Frame k is captured k periods after the first. `next` returns the newest one captured,
    or the one after it when that is already as old as the deadline and could not be in time.
    """

    def __init__(
        self,
        recording: Recording,
        rate_hz: float,
        deadline_ns: int,
        clock: Clock | None = None,
    ) -> None:
        self.rate_hz = rate_hz
        self._recording = recording
        self._period_ns = 1e9 / rate_hz
        self._deadline_ns = deadline_ns
        self._clock = clock or MonotonicClock()
        self._start_ns: int | None = None
        self._next = 0

    def next(self, stop: StopFlag) -> Capture | None:
        """Wait until a frame is due and read it."""
        now_ns = self._clock.now_ns()
        if self._start_ns is None:
            self._start_ns = now_ns
        index = max(self._next, int((now_ns - self._start_ns) / self._period_ns))
        if now_ns - self._due_ns(index) >= self._deadline_ns:
            index += 1
        dropped = 0
        while self._next < index and self._recording.skip():
            self._next += 1
            dropped += 1
        due_ns = self._due_ns(index)
        self._clock.wait_until(due_ns, stop)
        if stop.is_set():
            return None
        self._next += 1
        return _read(self._recording, due_ns, dropped)

    def close(self) -> None:
        """Free the recording."""
        self._recording.close()

    def _due_ns(self, index: int) -> int:
        return (self._start_ns or 0) + round(index * self._period_ns)


class TimedSource:
    """Plays a video by its own time stamps, as the camera delivered it.

    A frame that is as old as the deadline, or as the time between the two frames before, gives way
    to the next one.
    """

    def __init__(
        self, recording: VideoRecording, deadline_ns: int, clock: Clock | None = None
    ) -> None:
        self.rate_hz = recording.rate_hz
        self._recording = recording
        self._deadline_ns = deadline_ns
        self._gap_ns = round(1e9 / self.rate_hz)
        self._clock = clock or MonotonicClock()
        self._start_ns: int | None = None
        self._last_ns = 0

    def next(self, stop: StopFlag) -> Capture | None:
        """Wait until a frame is due and read it."""
        dropped = 0
        now_ns = self._clock.now_ns()
        while (time_ns := self._recording.time_ns()) is not None:
            if self._start_ns is None:
                self._start_ns = now_ns
            self._gap_ns = time_ns - self._last_ns or self._gap_ns
            self._last_ns = time_ns
            due_ns = self._start_ns + time_ns
            if now_ns - due_ns < min(self._deadline_ns, self._gap_ns):
                self._clock.wait_until(due_ns, stop)
                return None if stop.is_set() else _read(self._recording, due_ns, dropped)
            dropped += self._recording.skip()
        return _read(self._recording, now_ns, dropped)

    def close(self) -> None:
        """Free the video."""
        self._recording.close()


def _read(recording: Recording, due_ns: int, dropped: int) -> Capture | None:
    """Read the next frame.

    Raises:
        DataError: If there is none and something was wrong with the recording.
    """
    try:
        found = recording.read()
        if found is not None:
            return Capture(Frame(found[1], due_ns, found[0]), "", dropped)
    except (DataError, ValueError) as error:
        return Capture(None, str(error), dropped)
    if not dropped and recording.problem:
        raise DataError(recording.problem)
    return Capture(None, "", dropped) if dropped else None
