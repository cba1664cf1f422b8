"""What every source gives: the newest frame, captured at a known time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edgedetr.runtime.clock import StopFlag
    from edgedetr.runtime.types import Frame

DEFAULT_RATE_HZ = 30.0
"""Frames per second of a folder, and of a video or camera that does not name its rate."""


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


def silence_libraries() -> None:
    """Keep FFmpeg from printing: a line per damaged frame, and perhaps a URL with its password."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
