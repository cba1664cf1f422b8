"""Where the frames of a stream come from: a folder or video played at a rate, or a camera.

All give the newest frame there is and drop what came before it: what a detector that is too slow
must not do is fall behind.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2

from edgedetr.runtime.clock import MonotonicClock
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import MOST_PIXELS, SUFFIXES, list_images, read_image
from edgedetr.runtime.sources.video_length import missing_s
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.runtime.clock import Clock, StopFlag


FOLDER_RATE_HZ = 30.0
"""How fast a folder plays that nobody gives a rate; likewise a video that has none."""
MOST_DAMAGED = 250
"""After how many frames in a row that cannot be decoded a video has ended."""
MOST_GAP_NS = 60_000_000_000
"""Longest time between two frames of a video that is believed, in nanoseconds."""

_SIDES = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)


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
            DataError: If a camera gives no frames any more, or a recording ends early.
        """
        ...

    def close(self) -> None:
        """Free what is behind it; a second call does nothing."""
        ...


class RatedSource(Source, Protocol):
    """A source that says how many frames a second are to be expected.

    Attributes:
        rate_hz: Frames per second.
    """

    rate_hz: float


class Recording(Protocol):
    """Frames one after another.

    Attributes:
        problem: At the end, what is wrong with it: it ended early; empty if nothing is.
    """

    problem: str

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

    problem = ""

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
    """A video file that OpenCV can decode; its frames are called by their number.

    A frame that cannot be decoded is one that cannot be read, as long as a later one can.

    Attributes:
        rate_hz: Its frames per second, on average.
        problem: At the end: that it held no frame, or fewer than it says.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"{path}: no such video")
        silence_libraries()
        self._path = path
        self._video = cv2.VideoCapture(str(path))
        if not self._video.isOpened():
            raise DataError(f"{path}: OpenCV cannot play it; wanted a video, for example MP4")
        width, height = (self._video.get(k) for k in _SIDES)
        if width * height > MOST_PIXELS:
            self.close()
            raise DataError(
                f"{path}: frames of {width:.0f}x{height:.0f} pixels; at most {MOST_PIXELS} are read"
            )
        rate_hz = self._video.get(cv2.CAP_PROP_FPS)
        self.rate_hz = rate_hz if 0 < rate_hz <= 1000 else FOLDER_RATE_HZ
        self.problem = ""
        self._frames = max(0.0, self._video.get(cv2.CAP_PROP_FRAME_COUNT))
        self._index = -1
        self._damaged = 0  # frames that lie before the one that is grabbed
        self._is_grabbed = False
        self._stamp_ns = -1
        self._time_ns = 0

    def time_ns(self) -> int | None:
        """Return when the next frame is due, in nanoseconds since the first; None at the end.

        Time stamps that go back, or leap by more than `MOST_GAP_NS`, count as one period.
        """
        return self._time_ns if self._find() else None

    def skip(self) -> bool:
        """Pass over a frame without decoding it to an image."""
        if not self._find():
            return False
        self._index += 1
        if self._damaged:
            self._damaged -= 1
        else:
            self._is_grabbed = False
        return True

    def read(self) -> tuple[str, NDArray[np.uint8]] | None:
        """Decode the next frame."""
        if not self._find():
            return None
        is_damaged = self._damaged > 0
        self.skip()
        found, image = (False, None) if is_damaged else self._video.retrieve()
        if not found or image is None:
            raise DataError(f"{self._path}: frame {self._index} cannot be decoded")
        return f"{self._index:06d}", cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]

    def close(self) -> None:
        """Free the decoder."""
        self._video.release()

    def _find(self) -> bool:
        """Go to the next frame that can be decoded; tell whether there is one."""
        if self._is_grabbed:
            return True
        for damaged in range(0 if self.problem else MOST_DAMAGED):
            if self._video.grab():
                self._damaged, self._is_grabbed = damaged, True
                self._note_time()
                return True
        self.problem = self._end()
        return False

    def _note_time(self) -> None:
        stamp_ns = round(self._video.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        gap_ns = stamp_ns - self._stamp_ns
        if self._stamp_ns >= 0:
            is_sound = 0 < gap_ns <= MOST_GAP_NS
            self._time_ns += gap_ns if is_sound else round(1e9 / self.rate_hz)
        self._stamp_ns = max(0, stamp_ns)

    def _end(self) -> str:
        """Say whether the end came early."""
        seen = self._index + 1
        if not seen:
            return f"{self._path}: holds no frame that can be decoded"
        end_s = self._stamp_ns / 1e9 + 1.5 / self.rate_hz
        left_s = missing_s(self._path, self._frames, self.rate_hz, end_s)
        if seen < self._frames and left_s > 0:
            return (
                f"{self._path}: ends after {seen} of {self._frames:.0f} frames; it is cut off or "
                "damaged"
            )
        return ""


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
        self.rate_hz = rate_hz
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
        return _read(self._recording, due_ns, dropped)

    def close(self) -> None:
        """Free the recording."""
        self._recording.close()

    def _due_ns(self, index: int) -> int:
        return (self._start_ns or 0) + round(index * self._period_ns)


class TimedSource:
    """Plays a video by its own time stamps, as the camera delivered it.

    A frame that is as old as the deadline, or as the time between the two frames before, gives way
    to the next one.
    """

    def __init__(
        self, recording: VideoRecording, deadline_ns: int, clock: Clock | None = None
    ) -> None:
        self.rate_hz = recording.rate_hz
        self._recording = recording
        self._deadline_ns = deadline_ns
        self._gap_ns = round(1e9 / self.rate_hz)
        self._clock = clock or MonotonicClock()
        self._start_ns: int | None = None
        self._last_ns = 0

    def next(self, stop: StopFlag) -> Capture | None:
        """Wait until a frame is due and read it."""
        dropped = 0
        now_ns = self._clock.now_ns()
        while (time_ns := self._recording.time_ns()) is not None:
            if self._start_ns is None:
                self._start_ns = now_ns
            self._gap_ns = time_ns - self._last_ns or self._gap_ns
            self._last_ns = time_ns
            due_ns = self._start_ns + time_ns
            if now_ns - due_ns < min(self._deadline_ns, self._gap_ns):
                self._clock.wait_until(due_ns, stop)
                return None if stop.is_set() else _read(self._recording, due_ns, dropped)
            dropped += self._recording.skip()
        return _read(self._recording, now_ns, dropped)

    def close(self) -> None:
        """Free the video."""
        self._recording.close()


def _read(recording: Recording, due_ns: int, dropped: int) -> Capture | None:
    """Read the next frame.

    Raises:
        DataError: If there is none because the recording ended early.
    """
    try:
        found = recording.read()
        if found is not None:
            return Capture(Frame(found[1], due_ns, found[0]), "", dropped)
    except (DataError, ValueError) as error:
        return Capture(None, str(error), dropped)
    if not dropped and recording.problem:
        raise DataError(recording.problem)
    return Capture(None, "", dropped) if dropped else None


def open_source(
    source: str | os.PathLike[str], rate_hz: float | None, deadline_ns: int
) -> RatedSource:
    """Open a folder of images, a video file, or something live.

    Args:
        source: A folder or file, or the number of a camera, ``/dev/video*``, a URL such as
            ``rtsp://...``, or a GStreamer pipeline that ends in ``appsink``.
        rate_hz: How fast to play a folder or video; what to ask a camera for. A video plays by its
            own time stamps if None.
        deadline_ns: How old a frame may be to be worth a start.

    Raises:
        DataError: If there is no such folder, video or camera, or it holds no frame.
    """
    from edgedetr.runtime.sources.camera import CameraSource, is_live, open_camera

    text = os.path.expanduser(source)  # noqa: PTH111 - a pipeline is no path
    if is_live(text):
        rate_hz = rate_hz or FOLDER_RATE_HZ
        return CameraSource(open_camera(text, rate_hz), deadline_ns, rate_hz=rate_hz)
    path = Path(text)
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        video = VideoRecording(path)
        if rate_hz is None:
            return TimedSource(video, deadline_ns)
        return PacedSource(video, rate_hz, deadline_ns)
    paths = list_images(path)
    names = [p.stem for p in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"two images are called {twice}; their results would be one file")
    return PacedSource(FolderRecording(paths), rate_hz or FOLDER_RATE_HZ, deadline_ns)


def silence_libraries() -> None:
    """Keep FFmpeg from printing: a line per damaged frame, and perhaps a URL with its password."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
