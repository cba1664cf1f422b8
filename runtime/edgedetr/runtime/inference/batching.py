"""One model for several cameras: frames that come at the same time are detected in at once."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgedetr.runtime.types import Detections, Frame


class DetectsBatches(Protocol):
    """What a batcher needs of a `Detector`."""

    @property
    def batch(self) -> int:
        """How many frames the model takes at once."""
        ...

    def detect_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        """Find the objects of several frames.

        Raises:
            BackendError: If the backend fails; then nothing is returned of any frame.
        """
        ...


@dataclass(eq=False)
class _Job:
    frame: Frame
    future: Future[Detections] = field(default_factory=Future)
    since_ns: int = field(default_factory=monotonic_ns)


class Batcher:
    """Gathers the frames that threads detect in; there is no thread of its own.

    The thread whose frame has waited longest runs the batch once it is full, every camera has a
    frame in it, or ``gather_ns`` have passed since that frame came. A camera that is slow or gone
    costs the others no more than that.

    Args:
        detector: Runs the batches.
        gather_ns: How long a frame waits for those of other cameras, in nanoseconds.
    """

    def __init__(self, detector: DetectsBatches, gather_ns: int) -> None:
        self._detector = detector
        self._gather_ns = gather_ns
        self._changed = Condition()
        self._waiting: list[_Job] = []
        self._cameras = 0
        self._is_running = False

    @contextmanager
    def camera(self) -> Iterator[None]:
        """Count a camera, for whose frame others wait, while the block runs."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def detect(self, frame: Frame) -> Detections:
        """Find the objects of one frame, in a batch with those of other threads.

        Raises:
            BackendError: If the backend fails on the batch; every frame of it is lost.
            StuckError: If the backend does not return, or did not before.
        """
        job = _Job(frame)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()
            while not job.future.done():
                if self._is_running or job is not self._waiting[0]:
                    self._changed.wait()
                elif self._is_gathered(job) or not self._changed.wait(self._left_s(job)):
                    self._run()
        return job.future.result()

    def _is_gathered(self, first: _Job) -> bool:
        wanted = min(self._detector.batch, self._cameras)
        return len(self._waiting) >= wanted or self._left_s(first) <= 0

    def _left_s(self, first: _Job) -> float:
        return (first.since_ns + self._gather_ns - monotonic_ns()) / 1e9

    def _run(self) -> None:
        """Run the frames that wait, without the lock that the caller holds."""
        size = self._detector.batch
        jobs, self._waiting = self._waiting[:size], self._waiting[size:]
        self._is_running = True
        self._changed.release()
        try:
            found = self._detector.detect_batch([job.frame for job in jobs])
            for job, detections in zip(jobs, found, strict=True):
                job.future.set_result(detections)
        except BaseException as error:
            for job in jobs:
                job.future.set_exception(error)
        finally:
            self._changed.acquire()
            self._is_running = False
            self._changed.notify_all()

    def _count(self, change: int) -> None:
        with self._changed:
            self._cameras += change
            self._changed.notify_all()
