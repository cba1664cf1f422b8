"""Pacing, dropping and counting, on a clock that only moves when somebody works or waits."""

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edgedetr.runtime import Detections, Detector
from edgedetr.runtime.clock import StopFlag
from edgedetr.runtime.errors import BackendError, DataError, StuckError
from edgedetr.runtime.sources.playback import PacedSource
from edgedetr.runtime.stream.stream import Stream

MS = 1_000_000
IMAGE = np.zeros((8, 16, 3), np.uint8)


class FakeClock:
    def __init__(self):
        self.ns = 5_000 * MS

    def now_ns(self):
        return self.ns

    def wait_until(self, time_ns, _):
        self.ns = max(self.ns, time_ns)


class FakeRecording:
    """Frames called 0, 1, 2, ...; reading one takes time. Some are not what they should be."""

    problem = ""

    def __init__(self, count, clock, read_ms=0, bad=()):
        self.left = list(range(count))
        self.clock, self.read_ns, self.bad = clock, read_ms * MS, dict(bad)
        self.is_closed = False

    def skip(self):
        return bool(self.left) and self.left.pop(0) >= 0

    def read(self):
        if not self.left:
            return None
        self.clock.ns += self.read_ns
        number = self.left.pop(0)
        found = self.bad.get(number, IMAGE)
        if isinstance(found, Exception):
            raise found
        return str(number), found

    def close(self):
        self.is_closed = True


class FakeDetector:
    """Takes the given times for its frames, the last for all others; raises what it is given."""

    def __init__(self, clock, *times_ms):
        self.clock, self.times_ms = clock, list(times_ms)

    def detect(self, _):
        takes = self.times_ms.pop(0) if len(self.times_ms) > 1 else self.times_ms[0]
        if isinstance(takes, Exception):
            raise takes
        self.clock.ns += round(takes * MS)
        return nothing()


def nothing():
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def play(count, *times_ms, rate_hz=10, deadline_ms=100, read_ms=0, bad=(), **options):
    """Play frames; return the stream and, of each result, name, dropped, age and missed."""
    clock = FakeClock()
    source = PacedSource(
        FakeRecording(count, clock, read_ms, bad), rate_hz, deadline_ms * MS, clock
    )
    detector = FakeDetector(clock, *times_ms)
    stream = Stream(detector, source, deadline_ns=deadline_ms * MS, clock=clock, **options)
    return stream, [(int(r.frame.frame_id), r.dropped, r.age_ns / MS, r.missed) for r in stream]


def test_a_fast_detector_drops_nothing():
    stream, results = play(5, 40)
    assert results == [(k, 0, 40, False) for k in range(5)]
    summary = stream.summary()
    assert (summary.frames, summary.dropped, summary.missed) == (5, 0, 0)
    assert summary.age.max_ms == summary.latency.max_ms == 40


def test_capture_times_are_periods_apart():
    clock = FakeClock()
    source = PacedSource(FakeRecording(4, clock), 30, 100 * MS, clock)
    stream = Stream(FakeDetector(clock, 1), source, deadline_ns=100 * MS, clock=clock)
    times = [r.frame.timestamp_ns for r in stream]
    assert times == [5_000 * MS + round(k * 1e9 / 30) for k in range(4)]


def test_a_slow_detector_takes_the_newest_frame():
    """Each takes 250 ms of 100 ms periods: at 250 the newest is frame 2, 50 ms old, ..."""
    _, results = play(10, 250, deadline_ms=300)
    assert results == [
        (0, 0, 250, False),
        (2, 1, 300, False),  # done at 500, when frame 5 arrives
        (5, 2, 250, False),
        (7, 1, 300, False),
    ]


def test_every_frame_is_accounted_for():
    stream, results = play(100, 250, 10, 130, 999, 5)
    summary = stream.summary()
    assert summary.frames == len(results)
    assert summary.frames + summary.dropped == 100
    assert summary.dropped == sum(r[1] for r in results) + (99 - results[-1][0])


def test_one_late_frame_does_not_make_the_next_ones_late():
    _, results = play(8, 20, 350, 20)
    assert results[:2] == [(0, 0, 20, False), (1, 0, 350, True)]
    assert results[2:] == [
        (4, 2, 70, False),
        (5, 0, 20, False),
        (6, 0, 20, False),
        (7, 0, 20, False),
    ]


def test_a_frame_as_old_as_the_deadline_is_not_started():
    """At 150 ms frame 1 is 50 ms old and the deadline is 30: frame 2 is waited for."""
    stream, results = play(4, 150, 20, deadline_ms=30)
    assert results == [(0, 0, 150, True), (2, 1, 20, False), (3, 0, 20, False)]
    assert stream.summary().missed == 1


def test_reading_counts_towards_age_and_not_latency():
    stream, results = play(3, 20, read_ms=15)
    assert results == [(k, 0, 35, False) for k in range(3)]
    assert stream.summary().latency.max_ms == 20


def test_exactly_at_the_deadline_is_in_time():
    _, results = play(2, 100)
    assert [r[3] for r in results] == [False, False]
    _, results = play(2, 100.001)
    assert [r[3] for r in results] == [True, True]


def test_bad_frames_are_counted_told_and_passed_over():
    bad = {
        1: DataError("1.png: not a whole PNG"),
        2: np.zeros((8, 16), np.uint8),
        3: np.full((8, 16, 3), np.nan, np.float32),
        4: np.zeros((0, 16, 3), np.uint8),
        5: None,
    }
    told: list[str] = []
    stream, results = play(8, 40, bad=bad, on_problem=told.append)
    assert [r[0] for r in results] == [0, 6, 7]
    assert stream.summary().unreadable == 5
    assert told[0] == "1.png: not a whole PNG"
    assert all("must be uint8 of shape (H, W, 3)" in text for text in told[1:])


def test_a_lost_frame_is_counted_and_the_stream_goes_on():
    told: list[str] = []
    stream, results = play(4, 40, BackendError("frame 1 is lost"), 40, on_problem=told.append)
    assert [r[0] for r in results] == [0, 2, 3]
    assert stream.summary().failed == 1
    assert told == ["frame 1 is lost"]


def test_a_stuck_backend_ends_the_stream():
    with pytest.raises(StuckError):
        play(4, 40, StuckError("no answer"), 40)


def test_stop_ends_it_after_the_frame_at_work():
    clock, stop = FakeClock(), StopFlag()
    source = PacedSource(FakeRecording(9, clock), 10, 100 * MS, clock)
    stream = Stream(FakeDetector(clock, 40), source, deadline_ns=100 * MS, clock=clock, stop=stop)
    names = []
    for result in stream:
        names.append(result.frame.frame_id)
        if len(names) == 2:
            stop.set()
    assert names == ["0", "1"]


def test_an_empty_recording_has_no_percentiles():
    stream, results = play(0, 40)
    assert results == []
    assert stream.summary().age is None
    assert stream.summary().describe().startswith("0 frames, 0 dropped")


def test_the_summary_in_a_line():
    stream, _ = play(5, 40)
    assert stream.summary().describe() == (
        "5 frames, 0 dropped, 0 missed the deadline, 0 unreadable, 0 failed; "
        "age p50 40.0, p90 40.0, p99 40.0, max 40.0 ms"
    )


@pytest.mark.slow
def test_memory_and_files_stay_flat(tiny_onnx):
    clock = FakeClock()
    source = PacedSource(FakeRecording(4000, clock), 10, 100 * MS, clock)
    with Detector.open(tiny_onnx()) as detector:
        stream = Stream(detector, source, deadline_ns=100 * MS, clock=clock)
        results = iter(stream)
        for _ in range(500):
            next(results)
        tracemalloc.start()
        try:
            gc.collect()
            before, files = tracemalloc.get_traced_memory()[0], _open_files()
            for _ in range(2000):
                next(results)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 60_000  # 30 bytes a frame
        assert _open_files() == files
    assert stream.summary().frames == 2500


def _open_files():
    return len(list(Path("/proc/self/fd").iterdir()))
