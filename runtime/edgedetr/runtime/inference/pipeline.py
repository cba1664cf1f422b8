"""Two stages on two threads: the next frame is preprocessed while the network runs."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from threading import Condition, Thread, current_thread
from typing import TYPE_CHECKING, Generic, TypeVar

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedetr.runtime.types import Detections, Frame

P = TypeVar("P")

WAITING_FRAMES = 2
"""How many frames may wait; together with the one in each stage four are under way at most."""


_LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class _Job:
    frame: Frame
    future: Future[Detections] = field(default_factory=Future)

    def answer(self, found: Detections) -> None:
        self._call(partial(self.future.set_result, found))

    def fail(self, error: BaseException) -> None:
        self._call(partial(self.future.set_exception, error))

    def cancel(self) -> None:
        self._call(self.future.cancel)

    @staticmethod
    def _call(end: Callable[[], object]) -> None:
        """End the future, which calls its callbacks; whatever they raise must end no thread."""
        try:
            end()
        except BaseException:
            _LOG.exception("a callback of a submitted frame failed")


class Pipeline(Generic[P]):
    """Prepares and answers frames in the order in which they came.

    Args:
        prepare: First stage. It may block until the second has let go of what they share.
        answer: Second stage.
        on_end: Called by the second stage after its last frame.
    """

    def __init__(
        self,
        prepare: Callable[[Frame], P],
        answer: Callable[[Frame, P], Detections],
        on_end: Callable[[], object],
    ) -> None:
        self._prepare = prepare
        self._answer = answer
        self._on_end = on_end
        self._waiting: deque[_Job] = deque()
        self._changed = Condition()
        self._is_closed = False
        self._prepared: SimpleQueue[tuple[_Job, P] | None] = SimpleQueue()
        self._threads = [Thread(target=t, daemon=True) for t in (self._first, self._second)]
        for thread in self._threads:
            thread.start()

    def submit(self, frame: Frame, *, wait: bool) -> Future[Detections]:
        """Queue a frame.

        When the queue is full, the frame that has waited longest gives way and its future is
        cancelled; with ``wait`` the caller waits for room instead.

        Raises:
            UsageError: If a callback waits: the thread that it holds up is who makes room.
            ValueError: If the pipeline is closed.
        """
        if wait and current_thread() in self._threads:
            raise UsageError(
                "the callback of a submitted frame cannot wait for room, because it holds up the "
                "frames before; submit without wait, or from another thread"
            )
        job, given_way = _Job(frame), None
        with self._changed:
            while wait and not self._is_closed and len(self._waiting) >= WAITING_FRAMES:
                self._changed.wait()
            if self._is_closed:
                raise ValueError("the session is closed")
            if len(self._waiting) >= WAITING_FRAMES:
                given_way = self._waiting.popleft()
            self._waiting.append(job)
            self._changed.notify_all()
        if given_way is not None:
            given_way.cancel()  # outside the lock, because it calls the callbacks
        return job.future

    def close(self) -> None:
        """Cancel what waits, finish what is at work, and join the threads.

        Every call waits for that, unless a future's callback makes it: then the threads end later.
        """
        with self._changed:
            self._is_closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in left:
            job.cancel()
        if current_thread() not in self._threads:
            for thread in self._threads:
                thread.join()

    def _first(self) -> None:
        while (job := self._next()) is not None:
            self._prepare_one(job)
        self._prepared.put(None)

    def _prepare_one(self, job: _Job) -> None:
        try:
            if job.future.set_running_or_notify_cancel():
                self._prepared.put((job, self._prepare(job.frame)))
        except BaseException as error:
            job.fail(error)

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            job = self._waiting.popleft() if self._waiting else None
            self._changed.notify_all()
            return job

    def _second(self) -> None:
        while (item := self._prepared.get()) is not None:
            job, prepared = item
            try:
                found = self._answer(job.frame, prepared)
            except BaseException as error:
                job.fail(error)
            else:
                job.answer(found)
        self._on_end()
