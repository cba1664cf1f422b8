"""A trace of some steps of a run, for chrome://tracing or ui.perfetto.dev."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from edgedetr.runtime.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

TRACE = "trace.json"
FIRST, STEPS = 3, 5
"""Steps before the trace, one of them traced and dropped, and steps in it."""


class StepTrace:
    """Follows a run and traces some of its steps.

    Args:
        out: Folder of the run, which gets `TRACE` once these steps are taken.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        plan = schedule(wait=FIRST - 1, warmup=1, active=STEPS, repeat=1)
        self._profile = profile(activities=activities, schedule=plan, on_trace_ready=self._write)

    def start(self, records: Sequence[Mapping[str, Any]]) -> None:  # noqa: ARG002 - a watcher's
        """Begin to count steps."""
        self._profile.start()

    def step(self, step: int, epoch: int, terms: Mapping[str, float]) -> None:  # noqa: ARG002 - a watcher's
        """Take the end of a step."""
        self._profile.step()

    def evaluation(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Take an evaluation, which is no step."""

    def close(self) -> None:
        """Write the trace of a run that had fewer steps."""
        self._profile.stop()

    def _write(self, found: profile) -> None:
        with atomic_path(self._out / TRACE) as path:
            found.export_chrome_trace(str(path))
