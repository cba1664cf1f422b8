"""Run a detector on a stream, and count what was late.

Sources drop late frames: `edgedetr.runtime.sources.playback` and `edgedetr.runtime.sources.camera`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgedetr.runtime.clock import MonotonicClock, StopFlag
from edgedetr.runtime.errors import BackendError
from edgedetr.runtime.printable import counted
from edgedetr.runtime.timing import LatencyHistogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.runtime.clock import Clock
    from edgedetr.runtime.sources.capture import Source
    from edgedetr.runtime.stream.tracking import Tracker
    from edgedetr.runtime.timing import Latency
    from edgedetr.runtime.types import Detections, Frame


class Detects(Protocol):
    """What a stream needs of a `Detector`."""

    def detect(self, frame: Frame) -> Detections:
        """Find the objects of one frame.

        Raises:
            BackendError: If this frame is lost.
            StuckError: If all further ones are.
            DeviceLostError: If all further ones are, until the process ends.
        """
        ...


@dataclass(frozen=True, eq=False)
class StreamResult:
    """One frame that was detected in.

    Attributes:
        frame: The frame with its capture time.
        detections: What was found.
        track_ids: A number per detection, the same for the same object, 0 for none yet; int64 (N,).
            None without a tracker.
        age_ns: Time from capture to detections.
        latency_ns: The detector's part of it.
        dropped: Frames that gave way since the result before.
        missed: Whether the age is above the deadline.
    """

    frame: Frame
    detections: Detections
    track_ids: NDArray[np.int64] | None
    age_ns: int
    latency_ns: int
    dropped: int
    missed: bool


@dataclass(frozen=True)
class StreamSummary:
    """What became of a stream's frames.

    Attributes:
        frames: Detected in.
        dropped: Passed over for a newer one.
        missed: Detected in, but after the deadline.
        unreadable: No image.
        failed: Lost by the backend.
        age: From capture to detections; None without a frame.
        latency: The detector's part of it; None without a frame.
    """

    frames: int
    dropped: int
    missed: int
    unreadable: int
    failed: int
    age: Latency | None
    latency: Latency | None

    def describe(self) -> str:
        """Return a summary in one line."""
        text = (
            f"{counted(self.frames, 'frame')}, {self.dropped} dropped, "
            f"{self.missed} missed the deadline, {self.unreadable} unreadable, {self.failed} failed"
        )
        if self.age is None:
            return text
        age = self.age
        return (
            f"{text}; age p50 {age.p50_ms:.1f}, p90 {age.p90_ms:.1f}, p99 {age.p99_ms:.1f}, "
            f"max {age.max_ms:.1f} ms"
        )


class Stream:
    """The results of a source's frames, one after another.

    ::

        with Detector.open(Path("student.onnx")) as detector:
            source = open_source("frames", rate_hz=30, deadline_ns=33_000_000)
            for result in Stream(detector, source, deadline_ns=33_000_000):
                print(result.frame.frame_id, len(result.detections))

    A frame that is no image, and one that the backend fails on, is counted and passed over. The
    stream ends with its source, when ``stop`` is set, or with `StuckError`. Memory does not grow.

    Attributes:
        stop: Set it, from any thread or a signal handler, to end after the frame at work.
    """

    def __init__(  # noqa: PLR0913 - what makes a stream
        self,
        detector: Detects,
        source: Source,
        *,
        deadline_ns: int,
        tracker: Tracker | None = None,
        on_problem: Callable[[str], object] = lambda _: None,
        on_failure: Callable[[], object] = lambda: None,
        stop: StopFlag | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.stop = stop or StopFlag()
        self._detector = detector
        self._source = source
        self._deadline_ns = deadline_ns
        self._tracker = tracker
        self._on_problem = on_problem
        self._on_failure = on_failure
        self._clock = clock or MonotonicClock()
        self._frames = self._dropped = self._missed = self._unreadable = self._failed = 0
        self._since_last = 0
        self._ages, self._latencies = LatencyHistogram(), LatencyHistogram()

    def __iter__(self) -> Iterator[StreamResult]:
        """Detect until the stream ends.

        Raises:
            DataError: If a camera gives no frames any more.
            StuckError: If the backend does not return.
            DeviceLostError: If the GPU fails until the process ends.
        """
        while not self.stop.is_set() and (capture := self._source.next(self.stop)) is not None:
            self._dropped += capture.dropped
            self._since_last += capture.dropped
            if capture.problem:
                self._unreadable += 1
                self._on_problem(capture.problem)
            if capture.frame is not None and (result := self._result(capture.frame)) is not None:
                yield result

    def summary(self) -> StreamSummary:
        """Return what became of the frames so far."""
        return StreamSummary(
            self._frames,
            self._dropped,
            self._missed,
            self._unreadable,
            self._failed,
            self._ages.latency() if self._frames else None,
            self._latencies.latency() if self._frames else None,
        )

    def _result(self, frame: Frame) -> StreamResult | None:
        start_ns = self._clock.now_ns()
        try:
            found = self._detector.detect(frame)
        except BackendError as error:
            self._failed += 1
            self._on_failure()
            self._on_problem(str(error))
            return None
        ids = self._tracker.update(found, frame.timestamp_ns) if self._tracker else None
        done_ns = self._clock.now_ns()
        age_ns, latency_ns = done_ns - frame.timestamp_ns, done_ns - start_ns
        missed = age_ns > self._deadline_ns
        dropped, self._since_last = self._since_last, 0
        self._frames += 1
        self._missed += missed
        self._ages.add(age_ns)
        self._latencies.add(latency_ns)
        return StreamResult(frame, found, ids, age_ns, latency_ns, dropped, missed)
