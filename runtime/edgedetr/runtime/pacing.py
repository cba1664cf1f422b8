"""Time frames one after another, or at a constant rate as a camera delivers them.

Both measure as LoadGen of MLPerf does: the latency of a frame counts from the moment at which it
was due, so that one that waits for a slow one before it is late, too.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgedetr.runtime.clock import MonotonicClock, StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgedetr.runtime.clock import Clock


def single_stream(
    run: Callable[[int], object],
    frames: int,
    *,
    clock: Clock | None = None,
    on_frame: Callable[[], object] = lambda: None,
) -> list[int]:
    """Run each frame as soon as the one before is done.

    Args:
        run: Runs the frame with this number, from 0.
        frames: How many to run.
        clock: Measures; the system's when None.
        on_frame: Called after every frame, outside its latency.

    Returns:
        The latency of each frame, in nanoseconds.
    """
    clock = clock or MonotonicClock()
    latencies_ns = []
    for index in range(frames):
        start_ns = clock.now_ns()
        run(index)
        latencies_ns.append(clock.now_ns() - start_ns)
        on_frame()
    return latencies_ns


def constant_stream(
    run: Callable[[int], object],
    frames: int,
    rate_hz: float,
    *,
    clock: Clock | None = None,
    on_frame: Callable[[], object] = lambda: None,
) -> list[int]:
    """Run a frame every ``1 / rate_hz`` seconds and sleep between them; none is dropped.

    Args:
        run: Runs the frame with this number, from 0.
        frames: How many to run.
        rate_hz: Frames per second.
        clock: Measures and waits; the system's when None.
        on_frame: Called after every frame, outside its latency.

    Returns:
        How long after it was due each frame was done, in nanoseconds.
    """
    clock, never = clock or MonotonicClock(), StopFlag()
    latencies_ns = []
    start_ns = clock.now_ns()
    for index in range(frames):
        due_ns = start_ns + round(index * 1e9 / rate_hz)
        clock.wait_until(due_ns, never)
        run(index)
        latencies_ns.append(clock.now_ns() - due_ns)
        on_frame()
    return latencies_ns


@contextmanager
def old_objects_kept() -> Iterator[None]:
    """Exempt present objects from garbage collection: a full one takes longer than a frame."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
