"""Headers of PNG and JPEG files: size, orientation, and whether the file is complete.

The bytes are walked chunk by chunk (PNG, third edition, section 5) or marker by marker (ITU-T T.81,
annex B), as a decoder does: bytes before, between or behind them are ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING

from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_BYTES = 256 << 20
"""Largest file of an image that is read."""
MOST_SCANS = 50
"""Most scans of a JPEG file: encoders write some ten."""
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8"
UPRIGHT = 1
"""EXIF's orientation of a picture that is stored as it is seen; 5 to 8 swap height and width."""
_EXIF = b"Exif\x00\x00"
_ORIENTATION = 0x0112
_SHORT = 3
_ALONE = {0x01, 0xD8, *range(0xD0, 0xD8)}
"""JPEG markers without a length: TEM, SOI and RST."""
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF: the markers of the frame's size."""
_APP1, _SCAN, _END = 0xE1, 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The next marker of a scan; stuffed bytes and RST belong to the scan itself."""
_PIXEL_BYTES, _PNG_SLACK = 8, 1 << 16
"""Of a PNG file: of a pixel at most, and more than a picture's data have beyond its pixels."""
_MOST_EXIF = 1 << 16


@dataclass(frozen=True)
class ImageHeader:
    """Size and orientation of an image file.

    Attributes:
        stored_hw: Height and width of the pixels as they are stored; 0 where it is not known.
        orientation: EXIF's, 1 to 8; 1 where the file has none.
    """

    stored_hw: tuple[int, int]
    orientation: int = UPRIGHT

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the upright picture, as it is read."""
        height, width = self.stored_hw
        return (width, height) if self.orientation > 4 else (height, width)


def image_header(path: Path) -> ImageHeader:
    """Read the header of a file without reading its pixels.

    Raises:
        DataError: If the file cannot be read, or is no PNG or JPEG image with a size.
    """
    if path.exists() and not path.is_file():  # to open a pipe would wait for who writes it
        raise DataError(f"{path}: not a regular file; wanted a PNG or JPEG image")
    try:
        with path.open("rb") as file:
            header = header_of(file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not all(header.stored_hw):
        raise DataError(f"{path}: no PNG or JPEG image with a size in it; replace the file")
    return header


def header_of(data: bytes | IO[bytes]) -> ImageHeader:
    """Parse a header; the size is 0 x 0 where there is none.

    Args:
        data: The whole file, or a file open for reading at its start.
    """
    file = BytesIO(data) if isinstance(data, bytes) else data
    start = file.read(len(PNG_MAGIC))
    if start == PNG_MAGIC:
        return _png_header(file)
    if start.startswith(JPEG_MAGIC):
        file.seek(len(JPEG_MAGIC))
        return _jpeg_header(file)
    return ImageHeader((0, 0))


def is_whole(data: bytes) -> bool:
    """Return whether a file reaches its end marker; a trailer behind it is ignored.

    What holds far more than its pixels does not: it would be decoded for minutes.
    """
    if data.startswith(PNG_MAGIC):
        height, width = header_of(data).stored_hw
        chunks = list(_chunks(BytesIO(data[8:])))
        size = sum(length for kind, length in chunks if kind == b"IDAT")
        is_bounded = size <= (_PIXEL_BYTES * width + 8) * height + _PNG_SLACK
        return is_bounded and any(kind == b"IEND" for kind, _ in chunks)
    return data.startswith(JPEG_MAGIC) and jpeg_end(data) >= 0


def jpeg_end(data: bytes) -> int:
    """Return where the end marker of a JPEG file is, behind its scans; -1 where there is none.

    A file of more than `MOST_SCANS` has none: each takes as long as a whole picture.
    """
    if not data.startswith(JPEG_MAGIC):  # a PNG file may hold bytes that look like markers
        return -1
    file = BytesIO(data)
    file.seek(len(JPEG_MAGIC))
    scans = 0
    for marker, length in _segments(file):
        scans += marker == _SCAN
        if marker == _END:
            return file.tell() - 2 if 0 < scans <= MOST_SCANS else -1
        file.seek(length, 1)
        if marker == _SCAN:
            found = _MARKER.search(data, file.tell())
            if not found:
                return -1
            file.seek(found.start())
    return -1


def _png_header(file: IO[bytes]) -> ImageHeader:
    hw, orientation = (0, 0), UPRIGHT
    for kind, length in _chunks(file):
        if kind == b"IHDR" and length == 13:
            size = file.read(8)
            hw = int.from_bytes(size[4:], "big"), int.from_bytes(size[:4], "big")
            file.seek(-len(size), 1)
        elif kind == b"eXIf" and length <= _MOST_EXIF:
            exif = file.read(length)
            orientation = _orientation(exif.removeprefix(_EXIF))
            file.seek(-len(exif), 1)
    return ImageHeader(hw, orientation)


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield type and length of each chunk, the file standing at its data; IEND is the last."""
    kind = b""
    while kind != b"IEND":
        head = file.read(8)
        if len(head) < 8:
            return
        place, length, kind = file.tell(), int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IEND" and len(file.read(length + 4)) < length + 4:
            return
        file.seek(place)
        yield kind, length
        file.seek(place + length + 4)


def _jpeg_header(file: IO[bytes]) -> ImageHeader:
    orientation = UPRIGHT
    for marker, length in _segments(file):
        if marker in {_SCAN, _END}:
            break
        body = file.read(length) if marker == _APP1 or marker in _FRAMES else b""
        if len(body) < length and body:
            break
        if marker in _FRAMES:
            hw = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return ImageHeader(hw if len(body) >= 6 else (0, 0), orientation)
        if body.startswith(_EXIF):
            orientation = _orientation(body.removeprefix(_EXIF))
        file.seek(length - len(body), 1)
    return ImageHeader((0, 0), orientation)


def _segments(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Yield each marker with the length of its body, the file standing at that body.

    As libjpeg does, bytes before a marker are skipped. The caller moves on to the next one.
    """
    while byte := file.read(1):
        if byte != b"\xff":
            continue
        while (code := file.read(1)) == b"\xff":
            pass
        if not code or code == b"\x00" or code[0] in _ALONE:
            continue
        if code[0] == _END:
            yield _END, 0
            return
        length = int.from_bytes(file.read(2), "big") - 2
        if length < 0:
            return
        yield code[0], length


def _orientation(tiff: bytes) -> int:
    """Read EXIF's orientation from the first directory of a TIFF header; 1 where it has none."""
    order = {b"II*\x00": "little", b"MM\x00*": "big"}.get(tiff[:4])
    if order is None:
        return UPRIGHT

    def number(place: int, size: int) -> int:
        return int.from_bytes(tiff[place : place + size], order)  # type: ignore[arg-type]

    start = number(4, 4)
    for place in range(start + 2, start + 2 + 12 * number(start, 2), 12):
        if number(place, 2) == _ORIENTATION:
            is_known = number(place + 2, 2) == _SHORT and 1 <= number(place + 8, 2) <= 8
            return number(place + 8, 2) if is_known else UPRIGHT
        if place > len(tiff):
            break
    return UPRIGHT
