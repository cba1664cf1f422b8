"""The flag that stops a stream."""

from edgedetr.runtime.clock import MonotonicClock, StopFlag

MS = 1_000_000


def test_the_flag_wakes_who_waits():
    clock, stop = MonotonicClock(), StopFlag()
    clock.wait_until(clock.now_ns() + 5 * MS, stop)
    stop.set()
    stop.set()
    start_ns = clock.now_ns()
    clock.wait_until(start_ns + 60_000 * MS, stop)
    assert clock.now_ns() - start_ns < 10_000 * MS
    assert stop.is_set()
