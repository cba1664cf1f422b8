"""What the vehicle does with each frame, played on a clock of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedetr.runtime.sources.playback import PacedSource
from edgedetr.runtime.stream.stream import Stream
from edgedetr.runtime.types import Detections
from figures.drawing import LINE, WIDTH, Drawing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedetr.runtime.clock import StopFlag
    from edgedetr.runtime.stream.stream import StreamResult
    from edgedetr.runtime.types import Frame

RATE_HZ = 10
DEADLINE_MS = 100
DETECTION_MS = (45, 60, 45, 120, 75, 60, 215, 75, 50, 45, 45)
"""How long the detector takes for each frame that it gets, one after another."""
CAPTURED = 12
ROW = 46


class PlayedClock:
    """A clock that stands still but for what is waited for and worked on."""

    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        """Return its time."""
        return self.time_ns

    def wait_until(self, time_ns: int, stop: StopFlag) -> None:
        """Go on to a time."""
        del stop
        self.time_ns = max(self.time_ns, time_ns)


class PlayedDetector:
    """Takes the next of `DETECTION_MS` and finds nothing."""

    def __init__(self, clock: PlayedClock) -> None:
        self.clock = clock
        self.left = iter(DETECTION_MS)

    def detect(self, frame: Frame) -> Detections:
        """Let the time of a detection pass."""
        del frame
        self.clock.time_ns += next(self.left) * 1_000_000
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))


class PlayedRecording:
    """Black frames, called by their number."""

    problem = ""

    def __init__(self) -> None:
        self.names = iter(range(CAPTURED))

    def skip(self) -> bool:
        """Pass over one."""
        return next(self.names, None) is not None

    def read(self) -> tuple[str, NDArray[np.uint8]] | None:
        """Return the next one."""
        name = next(self.names, None)
        return None if name is None else (str(name), np.zeros((1, 1, 3), np.uint8))

    def close(self) -> None:
        """Do nothing."""


def frames() -> Drawing:
    """Draw when frames were captured, which were detected in, and which were late."""
    clock = PlayedClock()
    source = PacedSource(PlayedRecording(), RATE_HZ, DEADLINE_MS * 1_000_000, clock)
    stream = Stream(PlayedDetector(clock), source, deadline_ns=DEADLINE_MS * 1_000_000, clock=clock)
    results = list(stream)
    summary = stream.summary()
    drawing = Drawing(
        "frames",
        "A time line: frames captured at equal distances, the detection of each as a bar, those "
        "after the deadline in red, and frames without one, which were dropped.",
        4 * LINE + 3 * ROW + 30,
    )
    drawing.text(0, LINE, "One second of a camera", bold=True, size=14)
    drawing.lines(
        0,
        2 * LINE + 1,
        (f"{RATE_HZ} frames per second, deadline {DEADLINE_MS} ms. Of {CAPTURED} frames "
         f"{summary.frames} were detected in,",
         f"{summary.missed} of them too late, and {summary.dropped} dropped for a newer one."),
    )  # fmt: skip
    _lanes(drawing, results, 3 * LINE + 22)
    return drawing


def _lanes(drawing: Drawing, results: list[StreamResult], top: float) -> None:
    left = 62
    end_ms = (CAPTURED - 1) * 1000 / RATE_HZ + DEADLINE_MS

    def x(ms: float) -> float:
        return left + ms / end_ms * (WIDTH - left - 2)

    for row, name in enumerate(("camera", "detector", "vehicle")):
        drawing.text(0, top + ROW * row + 18, name)
    detected = {int(r.frame.frame_id): r for r in results}
    for number in range(CAPTURED):
        at = x(number * 1000 / RATE_HZ)
        colour = "ink" if number in detected else "orange"
        drawing.path([(at, top + 4), (at, top + 24)], colour)
        drawing.text(at, top - 2, str(number), colour, size=12, anchor="middle")
        if number not in detected:
            drawing.text(at, top + 37, "dropped", "orange", size=11, anchor="middle")
    for number, result in detected.items():
        done = (result.frame.timestamp_ns + result.age_ns) / 1e6
        begun = done - result.latency_ns / 1e6
        colour = "red" if result.missed else "blue"
        drawing.rect(x(begun), top + ROW + 2, x(done) - x(begun) - 1, 22, colour)
        drawing.arrow(x(done) - 1, top + ROW + 26, x(done) - 1, top + 2 * ROW + 2)
        drawing.text(x(done), top + 2 * ROW + 18, str(number), colour, size=12, anchor="middle")
        age = f"{result.age_ns / 1e6:.0f}"
        drawing.text(x(done), top + 2 * ROW + 34, age, "soft", size=11, anchor="middle")
    drawing.text(0, top + 2 * ROW + 34, "age (ms)", "soft", size=12)
