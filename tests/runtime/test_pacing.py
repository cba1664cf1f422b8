"""Latencies count from when a frame was due, on a clock of the test."""

import gc

from edgedetr.runtime.pacing import constant_stream, old_objects_kept, single_stream

MS = 1_000_000


class Clock:
    """Stands still unless something takes time; notes how long was slept."""

    def __init__(self, oversleeps_ns=0):
        self.time_ns = 7
        self.slept_ns = []
        self._oversleeps_ns = oversleeps_ns

    def now_ns(self):
        return self.time_ns

    def wait_until(self, time_ns, stop):
        del stop
        self.slept_ns.append(max(0, time_ns - self.time_ns))
        if time_ns > self.time_ns:
            self.time_ns = time_ns + self._oversleeps_ns


def working(clock, *durations_ms):
    """Return what takes so long for each frame."""

    def run(index):
        clock.time_ns += durations_ms[index] * MS

    return run


def test_one_after_another():
    clock, shown = Clock(), []
    latencies = single_stream(
        working(clock, 3, 1, 2), 3, clock=clock, on_frame=lambda: shown.append(clock.time_ns)
    )
    assert latencies == [3 * MS, 1 * MS, 2 * MS]
    assert len(shown) == 3
    assert clock.slept_ns == []


def test_a_frame_that_waits_for_a_slow_one_is_late_too():
    clock = Clock()
    latencies = constant_stream(working(clock, 4, 25, 4, 4, 4), 5, 100, clock=clock)
    # due at 0, 10, 20, 30, 40 ms; done at 4, 35, 39, 43, 47 ms
    assert latencies == [4 * MS, 25 * MS, 19 * MS, 13 * MS, 7 * MS]
    assert clock.slept_ns == [0, 6 * MS, 0, 0, 0]


def test_waking_late_counts():
    clock = Clock(oversleeps_ns=MS)
    latencies = constant_stream(working(clock, 4, 4), 2, 100, clock=clock)
    assert latencies == [4 * MS, 5 * MS]


def test_the_schedule_does_not_drift():
    clock = Clock()
    constant_stream(working(clock, *[0] * 31), 31, 30, clock=clock)
    assert clock.time_ns - 7 == 1_000_000_000


def test_the_system_clock_sleeps_until_a_frame_is_due():
    latencies = constant_stream(lambda _: None, 3, 1000)
    assert len(latencies) == 3
    assert min(latencies) >= 0


def test_objects_that_are_there_are_no_garbage():
    with old_objects_kept():
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
