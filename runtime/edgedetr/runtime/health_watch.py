"""Feed a health monitor from a stream's results, and serve it while the stream runs."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedetr.runtime.health import HealthMonitor
from edgedetr.runtime.health_digest import read_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgedetr.runtime.health import HealthReport
    from edgedetr.runtime.stream import StreamResult

CLIPPING_EVERY = 300
"""Frames between two that are sampled for clipped INT8 activations."""


@dataclass(frozen=True)
class HealthOptions:
    """What to watch.

    Attributes:
        digest: What ``edgedetr calib digest`` wrote, for alarms of drift.
        clipping: What ``edgedetr export clipping`` wrote, to sample clipped activations.
        metrics_port: TCP port for Prometheus.
        metrics_address: Interface for it.
    """

    digest: Path | None = None
    clipping: Path | None = None
    metrics_port: int | None = None
    metrics_address: str = "127.0.0.1"


class HealthWatch:
    """Tells a monitor of every frame, and of every `CLIPPING_EVERY`-th one what it clips.

    Args:
        monitor: What is told.
        clipped_share: Measures an image; it runs on a thread of its own, beside the stream.
    """

    def __init__(
        self,
        monitor: HealthMonitor,
        clipped_share: Callable[..., float] | None = None,
    ) -> None:
        self.monitor = monitor
        self._clipped_share = clipped_share
        self._sampler = ThreadPoolExecutor(1)
        self._sample: Future[float] | None = None
        self._frames = 0

    def result(self, result: StreamResult) -> None:
        """Take in a frame that was detected in."""
        self.monitor.observe(
            result.frame.image,
            result.detections,
            latency_ms=result.latency_ns / 1e6,
            age_ms=result.age_ns / 1e6,
            is_late=result.missed or result.dropped > 0,
        )
        if self._sample is not None and self._sample.done():
            self.monitor.observe_clipping(self._sample.result())
            self._sample = None
        if self._clipped_share and self._sample is None and self._frames % CLIPPING_EVERY == 0:
            self._sample = self._sampler.submit(self._clipped_share, result.frame.image)
        self._frames += 1

    def failure(self) -> None:
        """Take in a frame on which the backend failed."""
        self.monitor.observe_failure()

    def close(self) -> None:
        """Wait for the sample at work."""
        self._sampler.shutdown()


@contextmanager
def watched(
    options: HealthOptions, classes: int, note: Callable[[str], object]
) -> Iterator[HealthWatch]:
    """Watch a stream while the block runs.

    Args:
        options: What to watch.
        classes: How many classes the model knows.
        note: Called with a line when the state changes.

    Raises:
        ArtifactError: If a file is missing or damaged.
        UsageError: If the port cannot be had, or prometheus-client is missing.
    """
    digest = read_digest(options.digest) if options.digest else None
    monitor = HealthMonitor(classes, digest, on_change=lambda report: note(_line(report)))
    probe = None
    if options.clipping:
        from edgedetr.runtime.clipping import ClippingProbe

        probe = ClippingProbe(options.clipping)
    with ExitStack() as stack:
        if options.metrics_port is not None:
            from edgedetr.runtime.metrics import served

            address = options.metrics_address
            stack.enter_context(served(monitor, options.metrics_port, address))
        watch = HealthWatch(monitor, probe)
        stack.callback(watch.close)
        yield watch


def _line(report: HealthReport) -> str:
    why = ", ".join(sorted(report.alarms)) or "no alarm"
    return f"health is {report.state.name} after {report.frames} frames: {why}"
