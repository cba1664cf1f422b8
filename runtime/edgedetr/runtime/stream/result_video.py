"""A video of a stream's detections, complete or not there at all."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

import cv2

from edgedetr.runtime.draw import draw_detections
from edgedetr.runtime.files import atomic_path, unfinished_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.runtime.stream.stream import StreamResult

_INDEX_BYTES = 64  # of the MP4 file's end for each frame; its tables take about 20
_END_BYTES = 1 << 18  # what the encoder holds back, and the rest of the end


class ResultVideo:
    """Frames of the first one's size, in an MP4 file.

    OpenCV does not report a full disk. So the video ends while there is still room for its
    end, and takes its place only once it holds every frame.

    Args:
        path: The file; an older one is replaced.
        rate_hz: How fast it plays.
        class_names: Names of the classes.
    """

    def __init__(
        self, path: str | os.PathLike[str], rate_hz: float, class_names: Sequence[str]
    ) -> None:
        self._path = Path(path)
        self._rate_hz = rate_hz
        self._class_names = class_names
        self._size = (0, 0)
        self._frames = 0
        self._writer: cv2.VideoWriter | None = None
        self._unfinished = ExitStack()

    def write(self, result: StreamResult) -> None:
        """Draw a frame and append it.

        Raises:
            OSError: If OpenCV cannot write it, or there is no room for another frame.
        """
        image, ids = result.frame.image, result.track_ids
        picture = draw_detections(image, result.detections, self._class_names, ids)
        if self._writer is None:
            self._size = (image.shape[1], image.shape[0])
            self._writer = self._opened()
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size)  # type: ignore[assignment]
        if self._room_bytes() < self._size[0] * self._size[1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def close(self) -> None:
        """Put the video in its place; a second call does nothing.

        Raises:
            OSError: If it is not whole; then nothing is left of it.
        """
        writer, self._writer = self._writer, None
        with self._unfinished:
            if writer is None:
                return
            writer.release()
            if not self._frames:
                return
            if _frames_in(self._file) != self._frames:
                raise OSError(errno.EIO, "the video is not whole and is removed", str(self._path))
            with atomic_path(self._path) as temporary:
                shutil.move(self._file, temporary)

    def _opened(self) -> cv2.VideoWriter:
        if self._path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self._path))
        is_ordinary = self._path.is_file() or not self._path.exists()
        beside = self._path if is_ordinary else Path(gettempdir(), "video")
        folder = self._unfinished.enter_context(unfinished_folder(beside))
        self._file = folder / "video.mp4"  # OpenCV takes the kind from the suffix
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._file), codec, self._rate_hz, self._size)
        if not writer.isOpened():
            raise OSError(errno.EIO, "OpenCV cannot write this video", str(self._path))
        return writer

    def _room_bytes(self) -> float:
        """Return how much room there is beside what the end of the file takes."""
        free = shutil.disk_usage(self._file.parent).free
        return free - _END_BYTES - _INDEX_BYTES * self._frames


def _frames_in(path: Path) -> int:
    video = cv2.VideoCapture(str(path))
    try:
        return round(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    finally:
        video.release()
