"""Folders of images and video files, read frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import cv2

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images.reading import MOST_PIXELS, read_image
from edgedetr.runtime.printable import counted
from edgedetr.runtime.sources.capture import DEFAULT_RATE_HZ, silence_libraries
from edgedetr.runtime.sources.video_length import missing_s

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

MOST_DAMAGED = 250
"""After how many frames in a row that cannot be decoded a video has ended."""
MOST_GAP_NS = 60_000_000_000
"""Longest time between two frames of a video that is believed, in nanoseconds."""

_SIDES = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)


class Recording(Protocol):
    """Frames one after another.

    Attributes:
        problem: At the end, what is wrong with it: it ended early or was damaged on the way; empty
            if nothing is.
    """

    problem: str

    def skip(self) -> bool:
        """Skip a frame; return whether there was one."""
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
        problem: At the end: that it held no frame, fewer than its header counts, or some that
            cannot be decoded.
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
        self.rate_hz = rate_hz if 0 < rate_hz <= 1000 else DEFAULT_RATE_HZ
        self.problem = ""
        self._frames = max(0.0, self._video.get(cv2.CAP_PROP_FRAME_COUNT))
        self._index = -1
        self._damaged = 0  # frames that lie before the one that is grabbed
        self._all_damaged = 0
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
            self._all_damaged += not is_damaged
            raise DataError(f"{self._path}: frame {self._index} cannot be decoded")
        return f"{self._index:06d}", cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]

    def close(self) -> None:
        """Free the decoder."""
        self._video.release()

    def _find(self) -> bool:
        """Go to the next frame that can be decoded; return whether there is one."""
        if self._is_grabbed:
            return True
        for damaged in range(0 if self.problem else MOST_DAMAGED):
            if self._video.grab():
                self._damaged, self._is_grabbed = damaged, True
                self._all_damaged += damaged
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
        """Return what is wrong."""
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
        if self._all_damaged:
            frames = counted(seen, "frame")
            return f"{self._path}: damaged; {self._all_damaged} of {frames} cannot be decoded"
        return ""
