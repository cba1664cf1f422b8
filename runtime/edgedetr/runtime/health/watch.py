"""Feed a health monitor from a stream's results, and serve it while the stream runs."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from edgedetr.runtime.health.digest import read_digest
from edgedetr.runtime.health.monitor import HealthMonitor
from edgedetr.runtime.health.service_manager import ServiceManager
from edgedetr.runtime.inference.watchdog import leave_alone
from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.runtime.health.monitor import HealthReport
    from edgedetr.runtime.stream.stream import StreamResult

CLIPPING_EVERY = 300
"""Frames between two that are sampled for clipped INT8 activations."""
_END_S = 5.0


@dataclass(frozen=True)
class HealthOptions:
    """What to watch.

    Attributes:
        digest: What ``edgedetr calib digest`` wrote, for alarms of drift.
        clipping: What ``edgedetr export clipping`` wrote, to sample clipped activations.
        metrics_port: TCP port for Prometheus.
        metrics_address: Interface for it.
    """

    digest: str | os.PathLike[str] | None = None
    clipping: str | os.PathLike[str] | None = None
    metrics_port: int | None = None
    metrics_address: str = "127.0.0.1"


class HealthWatch:
    """Passes every frame to a monitor, and of every `CLIPPING_EVERY`-th one the clipped share.

    Args:
        monitor: Takes the figures.
        clipped_share: Measures an image; it runs on a thread of its own, beside the stream. Once it
            fails it is not called again.
        note: Called with a line when it fails.
    """

    def __init__(
        self,
        monitor: HealthMonitor,
        clipped_share: Callable[[NDArray[np.uint8]], float] | None = None,
        note: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.monitor = monitor
        self.manager = ServiceManager()
        self._clipped_share = clipped_share
        self._note = note
        self._sampler: Thread | None = None
        self._samples: SimpleQueue[float | Exception] = SimpleQueue()
        self._frames = 0

    def result(self, result: StreamResult) -> None:
        """Take in a frame that was detected in: a sign of life for the service manager, too."""
        self.manager.alive()
        self.monitor.observe(
            result.frame.image,
            result.detections,
            latency_ms=result.latency_ns / 1e6,
            age_ms=result.age_ns / 1e6,
            is_late=result.missed or result.dropped > 0,
        )
        if self._sampler is not None:
            self._take_sample()
        if self._clipped_share and not self._sampler and self._frames % CLIPPING_EVERY == 0:
            arguments = (self._clipped_share, result.frame.image, self._samples)
            self._sampler = Thread(target=_measure, args=arguments, daemon=True)
            self._sampler.start()
        self._frames += 1

    def _take_sample(self) -> None:
        try:
            sample = self._samples.get_nowait()
        except Empty:
            return
        self._sampler = None
        if isinstance(sample, Exception):
            self._clipped_share = None
            self._note(f"clipping is no longer measured, the stream continues: {sample}")
        else:
            self.monitor.observe_clipping(sample)

    def failure(self) -> None:
        """Take in a frame on which the backend failed."""
        self.monitor.observe_failure()

    def close(self) -> None:
        """Wait for the sample at work, but not for long."""
        if self._sampler is not None:
            self._sampler.join(_END_S)
            if self._sampler.is_alive():
                leave_alone(self._sampler)


@contextmanager
def watched(
    options: HealthOptions, classes: int, note: Callable[[str], object]
) -> Iterator[HealthWatch]:
    """Watch a stream while the block runs.

    Args:
        options: What to watch.
        classes: How many classes the model knows.
        note: Called with a line when the state changes, or clipping is no longer measured.

    Raises:
        ArtifactError: If a file is missing or damaged.
        UsageError: If the port is not available, or prometheus-client is missing.
    """
    digest = read_digest(options.digest) if options.digest else None
    monitor = HealthMonitor(classes, digest, on_change=lambda report: note(_line(report)))
    probe = None
    if options.clipping:
        from edgedetr.runtime.health.clipping import ClippingProbe

        probe = ClippingProbe(options.clipping)
    with ExitStack() as stack:
        if options.metrics_port is not None:
            from edgedetr.runtime.health.metrics import served

            address = options.metrics_address
            stack.enter_context(served(monitor, options.metrics_port, address))
        watch = HealthWatch(monitor, probe, note)
        stack.callback(watch.close)
        stack.enter_context(watch.manager)
        yield watch


def _measure(
    clipped_share: Callable[[NDArray[np.uint8]], float],
    image: NDArray[np.uint8],
    samples: SimpleQueue[float | Exception],
) -> None:
    try:
        samples.put(clipped_share(image))
    except Exception as error:  # of any kind
        samples.put(error)


def _line(report: HealthReport) -> str:
    why = ", ".join(sorted(report.alarms)) or "no alarm"
    frames = counted(report.frames, "frame")
    return f"health is {report.state.name} after {frames}: {why}"
