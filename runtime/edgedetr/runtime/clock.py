"""The clock of a stream; tests replace it and need not sleep."""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue
from typing import Protocol


class StopFlag:
    """Stops one waiting thread; unlike `threading.Event`, it may be set in a signal handler."""

    def __init__(self) -> None:
        self._is_set = False
        self._wake: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Request the stop; a second call does nothing."""
        self._is_set = True
        self._wake.put(None)

    def is_set(self) -> bool:
        """Return whether a stop was requested."""
        return self._is_set

    def wait(self, seconds: float) -> None:
        """Wait for some seconds, or until a stop is requested."""
        if not self._is_set:
            try:
                self._wake.get(timeout=seconds)
            except Empty:
                return


class Clock(Protocol):
    """A monotonic clock that can wait."""

    def now_ns(self) -> int:
        """Return nanoseconds on a monotonic clock."""
        ...

    def wait_until(self, time_ns: int, stop: StopFlag) -> None:
        """Return at a time, at once if it has passed, or earlier when ``stop`` is set."""
        ...


class MonotonicClock:
    """The system's monotonic clock."""

    def now_ns(self) -> int:
        """Return nanoseconds since some point in the past."""
        return time.monotonic_ns()

    def wait_until(self, time_ns: int, stop: StopFlag) -> None:
        """Return at a time, at once if it has passed, or earlier when ``stop`` is set."""
        left_ns = time_ns - self.now_ns()
        if left_ns > 0:
            stop.wait(left_ns / 1e9)
