"""Where the frames of a stream come from: a folder or video played at a rate, or a camera.

All give the newest frame there is and drop what came before it: what a detector that is too slow
must not do is fall behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2

from edgedetr.runtime.clock import MonotonicClock
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.runtime.clock import Clock, StopFlag


@dataclass(frozen=True, eq=False)
class Capture:
    """What a source gave: a frame, or why there is none.

    Attributes:
        frame: The frame; None if it could not be read or is no image, or if a recording ended with
            frames that were dropped.
        problem: What is wrong with the frame; empty if nothing is.
        dropped: How many frames were passed over since the capture before.
    """

    frame: Frame | None
    problem: str
    dropped: int


class Source(Protocol):
    """Gives the newest frame."""

    def next(self, stop: StopFlag) -> Capture | None:
        """Wait for a frame; None when there are no more, or ``stop`` is set.

        Raises:
            DataError: If a camera gives no frames any more.
        """
        ...

    def close(self) -> None:
        """Free what is behind it; a second call does nothing."""
        ...


class Recording(Protocol):
    """Frames one after another."""

    def skip(self) -> bool:
        """Pass over a frame; tell whether there was one."""
        ...

    def read(self) -> tuple[str, NDArray[np.uint8]] | None:
        """Return the next frame's name and RGB image, uint8 (H, W, 3); None at the end.

        Raises:
            DataError: If this frame cannot be read; the next may be.
        """
        ...

    def close(self) -> None:
        """Free what is behind it; a second call does nothing."""
        ...


class FolderRecording:
    """Image files, in the order given."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = iter(paths)

    def skip(self) -> bool:
        """Pass over an image without reading it."""
        return next(self._paths, None) is not None

    def read(self) -> tuple[str, NDArray[np.uint8]] | None:
        """Read the next image."""
        path = next(self._paths, None)
        return None if path is None else (path.stem, read_image(path))

    def close(self) -> None:
        """Do nothing; no file is open."""


class VideoRecording:
    """A video file that OpenCV can decode; its frames are called by their number."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"{path}: no such video")
        self._video = cv2.VideoCapture(str(path))
        self._index = -1
        if not self._video.isOpened():
            raise DataError(f"{path}: OpenCV cannot play it; wanted a video, for example MP4")

    def skip(self) -> bool:
        """Pass over a frame without decoding it to an image."""
        self._index += 1
        return self._video.grab()

    def read(self) -> tuple[str, NDArray[np.uint8]] | None:
        """Decode the next frame."""
        self._index += 1
        found, image = self._video.read()
        if not found:
            return None
        return f"{self._index:06d}", cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]

    def close(self) -> None:
        """Free the decoder."""
        self._video.release()


class PacedSource:
    """Plays a recording at a steady rate, as a camera would deliver it.

    Frame k is captured k periods after the first. Whoever asks gets the newest that is captured,
    or the next one when that is younger than the deadline no more: it could not be in time.
    """

    def __init__(
        self,
        recording: Recording,
        rate_hz: float,
        deadline_ns: int,
        clock: Clock | None = None,
    ) -> None:
        self._recording = recording
        self._period_ns = 1e9 / rate_hz
        self._deadline_ns = deadline_ns
        self._clock = clock or MonotonicClock()
        self._start_ns: int | None = None
        self._next = 0

    def next(self, stop: StopFlag) -> Capture | None:
        """Wait until a frame is due and read it."""
        now_ns = self._clock.now_ns()
        if self._start_ns is None:
            self._start_ns = now_ns
        index = max(self._next, int((now_ns - self._start_ns) / self._period_ns))
        if now_ns - self._due_ns(index) >= self._deadline_ns:
            index += 1
        dropped = 0
        while self._next < index and self._recording.skip():
            self._next += 1
            dropped += 1
        due_ns = self._due_ns(index)
        self._clock.wait_until(due_ns, stop)
        if stop.is_set():
            return None
        self._next += 1
        return self._read(due_ns, dropped)

    def close(self) -> None:
        """Free the recording."""
        self._recording.close()

    def _due_ns(self, index: int) -> int:
        return (self._start_ns or 0) + round(index * self._period_ns)

    def _read(self, due_ns: int, dropped: int) -> Capture | None:
        try:
            found = self._recording.read()
            if found is not None:
                return Capture(Frame(found[1], due_ns, found[0]), "", dropped)
        except (DataError, ValueError) as error:
            return Capture(None, str(error), dropped)
        return Capture(None, "", dropped) if dropped else None


def open_source(text: str, rate_hz: float, deadline_ns: int) -> Source:
    """Open a folder of images, a video file, or a camera by its number or ``/dev/video*``.

    Args:
        text: What to open.
        rate_hz: How fast to play a folder or video; what to ask a camera for.
        deadline_ns: How old a frame may be to be worth a start.

    Raises:
        DataError: If there is no such folder, video or camera, or it holds no frame.
    """
    from edgedetr.runtime.camera import CameraSource, open_camera

    path = Path(text)
    if text.isdecimal() or text.startswith("/dev/"):
        return CameraSource(open_camera(text, rate_hz), deadline_ns)
    if path.is_file():
        return PacedSource(VideoRecording(path), rate_hz, deadline_ns)
    paths = list_images(path)
    names = [p.stem for p in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"two images are called {twice}; their results would be one file")
    return PacedSource(FolderRecording(paths), rate_hz, deadline_ns)
