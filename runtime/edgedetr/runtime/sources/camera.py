"""A camera that OpenCV can open; a thread empties its queue so that frames are new."""

from __future__ import annotations

import os
import re
import threading
import time
from typing import TYPE_CHECKING, Protocol

import cv2

from edgedetr.runtime.clock import MonotonicClock
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.sources.capture import DEFAULT_RATE_HZ, Capture, silence_libraries
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    from cv2.typing import MatLike

    from edgedetr.runtime.clock import Clock, StopFlag

SILENCE_S = 5.0
"""After how long without a frame a camera counts as lost."""

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "rtp", "tcp", "srt")
"""The URLs that are opened."""

_LINK = " ! "  # between the elements of a pipeline
_TIME_LIMITS = [
    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1000 * SILENCE_S)),
    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1000 * SILENCE_S)),
]
_LAST_NUMBER = 999
_MOST_DIGITS = 20
"""More than any number has: reading thousands of digits is an error of Python's own."""
_RETRY_S = 0.02
_JOIN_S = 2.0


class Camera(Protocol):
    """The two methods of ``cv2.VideoCapture`` that are needed."""

    def read(self) -> tuple[bool, MatLike]:
        """Wait for a frame, BGR; whether there is one."""
        ...

    def release(self) -> None:
        """Close the camera."""
        ...


def is_live(text: str) -> bool:
    """Return whether a source is a camera, a URL or a pipeline, not a file or folder."""
    if text.isdecimal():
        return True
    named = "://" in text or _LINK in text or text.startswith("/dev/")
    return named and not (os.path.isdir(text) or os.path.isfile(text))  # noqa: PTH112, PTH113


def open_camera(text: str, rate_hz: float) -> Camera:
    """Open a camera by its number or device file, a URL or a GStreamer pipeline; request a rate.

    Raises:
        DataError: If OpenCV cannot open it; no message holds a user, a password or a token.
    """
    name = _public_name(text)
    silence_libraries()
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        camera = _opened(text, name)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not camera.isOpened():
        raise DataError(f"{name}: OpenCV cannot open it; check that it is connected and not in use")
    camera.set(cv2.CAP_PROP_FPS, rate_hz)
    camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return camera


def _opened(text: str, name: str) -> cv2.VideoCapture:
    if _LINK in text:
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise DataError(f"{name}: this OpenCV has no GStreamer; install a build that has it")
        return cv2.VideoCapture(text, cv2.CAP_GSTREAMER)
    if "://" in text:
        if text.partition("://")[0].lower() not in SCHEMES:
            raise DataError(f"{name}: wanted a URL of {', '.join(SCHEMES)}")
        return cv2.VideoCapture(text, cv2.CAP_FFMPEG, _TIME_LIMITS)
    if text.isdecimal() and (len(text) > _MOST_DIGITS or int(text) > _LAST_NUMBER):
        raise DataError(f"{name}: cameras have numbers up to {_LAST_NUMBER}")
    return cv2.VideoCapture(int(text) if text.isdecimal() else text)


def _public_name(text: str) -> str:
    """Name a camera without what may be secret: all of a URL but its host, all but the elements."""
    if _LINK in text:
        elements = [part.split()[0] for part in text.split(_LINK) if part.split()]
        return f"pipeline {_LINK.join(elements)}"
    scheme, separator, rest = text.partition("://")
    if not separator:
        return f"camera {text}"
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    is_plain = rest.count("@") == authority.count("@") < 2
    return f"camera {scheme}://{authority.rpartition('@')[2] if is_plain else '...'}"


class CameraSource:
    """The newest frame of a camera; its capture time is when it arrived here."""

    def __init__(
        self,
        camera: Camera,
        deadline_ns: int,
        clock: Clock | None = None,
        silence_s: float = SILENCE_S,
        rate_hz: float = DEFAULT_RATE_HZ,
    ) -> None:
        self.rate_hz = rate_hz
        self._camera = camera
        self._deadline_ns = deadline_ns
        self._clock = clock or MonotonicClock()
        self._silence_s = silence_s
        self._arrived = threading.Condition()
        self._newest: tuple[int, int, MatLike] | None = None
        self._given: int | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read_all, daemon=True)
        self._thread.start()

    def next(self, stop: StopFlag) -> Capture | None:
        """Wait for a frame that is new and younger than the deadline.

        Raises:
            DataError: If none comes.
        """
        left_s = self._silence_s
        while not stop.is_set():
            with self._arrived:
                newest, self._newest = self._newest, None
                if newest is None:
                    self._arrived.wait(min(left_s, 0.1))  # a signal may set ``stop`` meanwhile
                    left_s -= 0.1
            if newest is not None and self._clock.now_ns() - newest[1] < self._deadline_ns:
                return self._capture(*newest)
            if newest is None and left_s <= 0:
                raise DataError(f"the camera gave no frame for {self._silence_s:g} s")
        return None

    def close(self) -> None:
        """Stop reading and free the camera, unless its driver hangs; a second call does nothing."""
        if not self._end.is_set():
            self._end.set()
            self._thread.join(_JOIN_S)
            if not self._thread.is_alive():
                self._camera.release()

    def _capture(self, index: int, captured_ns: int, image: MatLike) -> Capture:
        dropped = 0 if self._given is None else index - self._given - 1
        self._given = index
        try:
            picture = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            frame = Frame(picture, captured_ns, f"{index:06d}")  # type: ignore[arg-type]
        except (cv2.error, ValueError) as error:
            return Capture(None, f"{index:06d}: the camera gave no colour image: {error}", dropped)
        return Capture(frame, "", dropped)

    def _read_all(self) -> None:
        index = 0
        while not self._end.is_set():
            found, image = self._camera.read()
            if not found:
                time.sleep(_RETRY_S)
                continue
            with self._arrived:
                self._newest = (index, self._clock.now_ns(), image)
                self._arrived.notify()
            index += 1
