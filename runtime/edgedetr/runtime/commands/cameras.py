"""Open the cameras of ``edgedetr run``: a stream, files and health for each."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.health.watch import watched
from edgedetr.runtime.inference.batching import Batcher
from edgedetr.runtime.kitti import check_folder
from edgedetr.runtime.printable import counted
from edgedetr.runtime.stream.cameras import Camera
from edgedetr.runtime.stream.result_files import ResultFiles
from edgedetr.runtime.stream.stream import Stream
from edgedetr.runtime.stream.tracking import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.health.watch import HealthOptions
    from edgedetr.runtime.sources.capture import RatedSource

_LAST_PORT = 65_535
GATHER_SHARE = 0.25
"""Part of the deadline for which a frame waits for those of other cameras."""


@dataclass(frozen=True)
class CameraOptions:
    """What the command line says of its cameras.

    Attributes:
        deadline_ns: From capture to detections, in nanoseconds.
        out: Folder of results.
        video: MP4 file.
        with_tracker: Whether objects are tracked.
        watching: What is watched.
    """

    deadline_ns: int
    out: Path | None
    video: Path | None
    with_tracker: bool
    watching: HealthOptions

    def of_each(self, cameras: int) -> list[CameraOptions]:
        """Return those of each camera; several have each their own place.

        Raises:
            UsageError: If there are other results, the video is a folder, or ports end before the
                cameras do.
        """
        if cameras == 1:
            return [self]
        if self.out:
            check_folder(self.out)
        if self.video and not self.video.name:
            raise UsageError(f"--video {self.video} is a folder; name an MP4 file")
        last = (self.watching.metrics_port or 0) + cameras - 1
        if last > _LAST_PORT:
            raise UsageError(
                f"--metrics-port {self.watching.metrics_port} is the first of {cameras} ports, one "
                f"for each camera, and ports end at {_LAST_PORT}; give a lower one"
            )
        return [self._of_camera(number) for number in range(cameras)]

    def _of_camera(self, number: int) -> CameraOptions:
        port = self.watching.metrics_port
        return replace(
            self,
            out=self.out and self.out / str(number),
            video=self.video and self.video.with_stem(f"{self.video.stem}-{number}"),
            watching=replace(self.watching, metrics_port=port and port + number),
        )


@contextmanager
def open_cameras(
    detector: Detector,
    sources: Sequence[RatedSource],
    options: Sequence[CameraOptions],
    report: Callable[[str], object],
) -> Iterator[list[Camera]]:
    """Make a camera of each source; several share the model's batch.

    Args:
        detector: Detects in all frames.
        sources: The cameras; they remain the caller's.
        options: What becomes of each camera's results; see `CameraOptions.of_each`.
        report: Takes a line for standard error.

    Raises:
        ArtifactError: If a file of ``watching`` is missing or damaged.
        UsageError: If there are other results, or a port is not available.
    """
    with ExitStack() as stack:
        if len(sources) == 1:
            yield [_camera(stack, detector, sources[0], options[0], _Notes(report))]
            return
        batcher = Batcher(detector, round(GATHER_SHARE * options[0].deadline_ns))
        cameras = []
        for number, (source, own) in enumerate(zip(sources, options, strict=True)):
            notes = _Notes(report, f"camera {number}: ")
            camera = _camera(stack, detector, source, own, notes, batcher)
            cameras.append(replace(camera, name=f"camera {number}", open=batcher.camera))
        yield cameras


def _camera(
    stack: ExitStack,
    detector: Detector,
    source: RatedSource,
    options: CameraOptions,
    notes: _Notes,
    batcher: Batcher | None = None,
) -> Camera:
    names = detector.spec.class_names
    watch = stack.enter_context(watched(options.watching, len(names), notes.report))
    files = ResultFiles(
        options.out,
        options.video,
        rate_hz=source.rate_hz,
        class_names=names,
        on_problem=notes.report_some,
    )
    stream = Stream(
        batcher or detector,
        source,
        deadline_ns=options.deadline_ns,
        tracker=Tracker(round(1e9 / source.rate_hz)) if options.with_tracker else None,
        on_problem=notes.report_some,
        on_failure=watch.failure,
    )
    return Camera("", stream, files, options.out, watch.result)


class _Notes:
    """Reports lines of one camera."""

    def __init__(self, report: Callable[[str], object], prefix: str = "") -> None:
        self._report = report
        self._prefix = prefix
        self._last_s = -1.0
        self._left_out = 0

    def report(self, text: str) -> None:
        """Report a line."""
        self._report(f"{self._prefix}{text}")

    def report_some(self, text: str) -> None:
        """Report at most one line a second: a camera that fails would flood the log."""
        if monotonic() - self._last_s < 1:
            self._left_out += 1
            return
        more = f" ({counted(self._left_out, 'message')} left out before)" if self._left_out else ""
        self.report(f"{text}{more}")
        self._last_s, self._left_out = monotonic(), 0
