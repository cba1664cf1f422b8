"""Run one model on the streams of several cameras, each on a thread of its own."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import BackendGoneError, DataError, EdgeDetrError
from edgedetr.runtime.stream.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.stream.result_files import ResultFiles
    from edgedetr.runtime.stream.stream import Stream, StreamResult, StreamSummary


@dataclass(frozen=True, eq=False)
class Camera:
    """A stream and what becomes of its results.

    Attributes:
        name: For messages; empty for the only one.
        stream: Its frames and detections.
        files: What takes the results.
        out: Folder of its summary; none is written if None.
        on_result: Called with every result once it is written, by the camera's thread.
        open: Entered while the stream runs.
    """

    name: str
    stream: Stream
    files: ResultFiles
    out: Path | None
    on_result: Callable[[StreamResult], object]
    open: Callable[[], AbstractContextManager[None]] = nullcontext


def run_cameras(
    detector: Detector,
    cameras: Sequence[Camera],
    *,
    frames: int | None,
    on_end: Callable[[str, StreamSummary], object],
) -> None:
    """Run every camera to its end; one that is lost does not stop the others.

    Args:
        detector: The detector of all the streams.
        cameras: At least one; the only one runs on the calling thread.
        frames: Stop each after so many results.
        on_end: Called with the name of a camera and its summary when it ends.

    Raises:
        BackendGoneError: If the backend did not return or its device is lost; that ends all.
        BackendError: If the backend failed on the last frames of a camera, the only one.
        DataError: What ended cameras early, as `edgedetr.runtime.stream.run.run` raises it.
    """
    if len(cameras) == 1:
        _run(detector, frames, on_end, cameras[0])
        return
    errors: dict[str, BaseException] = {}
    run_one = partial(_run, detector, frames, on_end)
    threads = [
        Thread(target=_guarded, args=(run_one, camera, cameras, errors), daemon=True)
        for camera in cameras
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        stop_cameras(cameras)  # a second signal ends the command while they are at work
    for error in errors.values():
        if isinstance(error, BackendGoneError) or not isinstance(error, EdgeDetrError):
            raise error
    if errors:
        raise DataError("; ".join(f"{name}: {error}" for name, error in errors.items()))


def stop_cameras(cameras: Sequence[Camera]) -> None:
    """Stop each after the frame at work; a signal handler may call it."""
    for camera in cameras:
        camera.stream.stop.set()


def _run(
    detector: Detector,
    frames: int | None,
    on_end: Callable[[str, StreamSummary], object],
    camera: Camera,
) -> None:
    with camera.open():
        run(
            detector,
            camera.stream,
            camera.files,
            out=camera.out,
            frames=frames,
            on_result=camera.on_result,
            on_end=partial(on_end, camera.name),
        )


def _guarded(
    run_one: Callable[[Camera], None],
    camera: Camera,
    cameras: Sequence[Camera],
    errors: dict[str, BaseException],
) -> None:
    """Keep the error that ends a camera; end the others, too, where none can go on."""
    try:
        run_one(camera)
    except EdgeDetrError as error:
        errors[camera.name] = error
        if isinstance(error, BackendGoneError):
            stop_cameras(cameras)
    except BaseException as error:
        errors[camera.name] = error
        stop_cameras(cameras)
