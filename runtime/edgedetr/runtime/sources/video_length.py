"""The length of a video by its header, apart from its number of frames: an edit may omit some."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

_SLACK_S, _SLACK = 0.5, 0.02  # other streams of the file, such as sound, may be a little longer
_BOX = 8  # bytes of a box's size and kind
_MOST_HEAD = 1 << 16


def missing_s(path: Path, frames: float, rate_hz: float, end_s: float) -> float:
    """Return how much of a video is missing behind its last frame, in seconds, or less than 0.

    An AVI file's frames have one length, so their number says how long it is. An MP4 file says it
    in its head. Of other files FFmpeg's estimate is believed but for half a second or 2 %.

    Args:
        path: The video.
        frames: How many frames it counts, by FFmpeg.
        rate_hz: Frames per second.
        end_s: Where the last frame that was read ends.
    """
    with path.open("rb") as file:
        head = file.read(_BOX)
        length_s = _movie_length_s(file) if head[4:] == b"ftyp" else None
    if length_s:
        return length_s - end_s
    slack_s = 0.0 if head.startswith(b"RIFF") else max(_SLACK_S, _SLACK * frames / rate_hz)
    return frames / rate_hz - slack_s - end_s


def _movie_length_s(file: BinaryIO) -> float | None:
    """Read the movie header (ISO/IEC 14496-12, 8.2.2); None where there is none."""
    place = 0
    while len(box := _at(file, place, 2 * _BOX)) == 2 * _BOX:
        size, kind = int.from_bytes(box[:4], "big"), box[4:8]
        if kind == b"moov":
            return _length_s(_at(file, place, _MOST_HEAD))
        size = int.from_bytes(box[8:], "big") if size == 1 else size
        if size < _BOX:
            return None
        place += size
    return None


def _length_s(movie: bytes) -> float | None:
    place = movie.find(b"mvhd") + 4
    is_long = movie[place : place + 1] == b"\x01"
    times, width = (20, 8) if is_long else (12, 4)  # behind the times of creation and change
    ticks_hz = int.from_bytes(movie[place + times : place + times + 4], "big")
    ticks = int.from_bytes(movie[place + times + 4 : place + times + 4 + width], "big")
    return ticks / ticks_hz if place > 4 and ticks_hz else None


def _at(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)
