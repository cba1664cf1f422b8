"""Run calls that may never return, and abandon one that does not."""

from __future__ import annotations

import weakref
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from edgedetr.runtime.errors import StuckError

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = tuple[int, Callable[[], Any]]
    Answer = tuple[int, Any, BaseException | None]

T = TypeVar("T")

_LAST_WAIT_S = 2.0
_left_alone: list[Thread] = []


def is_any_left_alone() -> bool:
    """Return whether an abandoned thread still hangs; then the interpreter cannot end in order."""
    return any(thread.is_alive() for thread in _left_alone)


def leave_alone(thread: Thread) -> None:
    """Abandon a thread that hangs."""
    _left_alone.append(thread)


def wait_for_left_alone() -> None:
    """Wait briefly for abandoned threads that end after all."""
    until = monotonic() + _LAST_WAIT_S
    for thread in _left_alone:
        thread.join(max(0, until - monotonic()))


class Watchdog:
    """One thread that runs one call after another; its caller waits only so long.

    Python cannot end a thread that hangs inside a driver. So after a call that did not return the
    thread is abandoned, every further call is refused, and a new watchdog is needed. Calls may
    come from several threads, but one at a time.

    Attributes:
        limit_s: How long a call may take, in seconds.
        is_stuck: Whether a call did not return within its limit.
    """

    def __init__(self, limit_s: float) -> None:
        if not limit_s > 0:
            raise ValueError(f"a time limit must be above 0 s, got {limit_s}")
        self.limit_s = limit_s
        self.is_stuck = False
        self._is_busy = False
        self._number = 0
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._thread = Thread(target=_serve, args=(self._calls, self._answers), daemon=True)
        self._thread.start()
        # the thread knows only the queues, so a watchdog that nobody closed ends with its last user
        self._end = weakref.finalize(self, self._calls.put, None)
        self._end.atexit = False  # frames may still be under way then; the detector ends them

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return not self._end.alive

    def run(self, call: Callable[[], T], *, limit_s: float | None = None) -> T:
        """Return what ``call`` returns on the thread, or raise what it raises.

        Args:
            call: What to run.
            limit_s: Another time limit, in seconds, for a model that warms up.

        Raises:
            StuckError: If it does not return in time, or an earlier one did not.
            ValueError: If the watchdog is closed.
        """
        if self.is_stuck:
            raise StuckError(self._message())
        if self.is_closed:
            raise ValueError("the watchdog is closed")
        self._number += 1
        self._is_busy = True
        self._calls.put((self._number, call))
        _, value, error = self._own_answer(limit_s or self.limit_s)
        self._is_busy = False
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the thread and wait for it, unless its call is given up; a second does nothing."""
        if self._end.detach():
            self._calls.put(None)
        if not self._is_busy and self._thread is not current_thread():
            self._thread.join(self.limit_s)

    def _own_answer(self, limit_s: float) -> Answer:
        """Wait for the answer to the last call; an interrupted one's is dropped."""
        try:
            while (answer := self._answers.get(timeout=limit_s))[0] != self._number:
                pass
        except Empty:
            self.is_stuck = True
            leave_alone(self._thread)
            raise StuckError(self._message()) from None
        except BaseException:  # Ctrl-C
            leave_alone(self._thread)
            raise
        return answer

    def _message(self) -> str:
        return (
            f"the backend did not return within {self.limit_s:g} s; the detector refuses further "
            "frames: swap in a model or restart the process"
        )


def _serve(calls: SimpleQueue[Call | None], answers: SimpleQueue[Answer]) -> None:
    while (item := calls.get()) is not None:
        number, call = item
        try:
            answers.put((number, call(), None))
        except BaseException as error:
            answers.put((number, None, error))
        del item, call  # or they would live until the next frame
