"""A trace of some steps of a run, for chrome://tracing or ui.perfetto.dev."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from edgedetr.runtime.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TRACE = "trace.json"
FIRST, STEPS = 3, 5
"""Steps before the trace, one of them traced and dropped, and steps in it."""


@contextmanager
def traced(folder: Path | None) -> Iterator[Callable[[], None]]:
    """Write ``trace.json`` into a folder after some steps; give what tells that a step ended.

    Args:
        folder: Of the run; None traces nothing.
    """
    if folder is None:
        yield lambda: None
        return
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)

    def write(found: profile) -> None:
        with atomic_path(folder / TRACE) as path:
            found.export_chrome_trace(str(path))

    plan = schedule(wait=FIRST - 1, warmup=1, active=STEPS, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write) as profiler:
        yield profiler.step
