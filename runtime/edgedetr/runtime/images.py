"""Read camera images from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import read_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".png", ".jpg", ".jpeg")
"""What counts as an image, in lower case."""
MOST_BYTES = 256 << 20
"""Largest file that is read."""
MOST_PIXELS = 1 << 27
"""Most pixels that are decoded: a small file may claim billions."""
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def list_images(path: Path) -> list[Path]:
    """List a folder's images, sorted by name; of an image itself, that one.

    Raises:
        DataError: If there is no such folder or image, or the folder holds no image.
    """
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return [path]
    if not path.is_dir():
        problem = "no image by its name" if path.is_file() else "no such folder or image"
        raise DataError(f"{path}: {problem}; wanted {', '.join(SUFFIXES)} or a folder of them")
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{path}: holds no image; wanted {', '.join(SUFFIXES)} files")
    return found


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as RGB pixels, uint8 of shape (H, W, 3), owned by the caller.

    Raises:
        DataError: If the file is missing, empty, cut off or no image.
    """
    try:
        data = read_bytes(path, MOST_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not _is_whole(data):
        raise DataError(
            f"{path}: not a whole PNG or JPEG image ({len(data)} bytes); replace the file"
        )
    height, width = _declared_hw(data)
    if height * width > MOST_PIXELS:
        raise DataError(f"{path}: claims {width}x{height} pixels; at most {MOST_PIXELS} are read")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"{path}: cannot be decoded as an image; replace the file")
    return cast("NDArray[np.uint8]", cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def image_hw(path: Path) -> tuple[int, int]:
    """Read an image's height and width in pixels from its header, without decoding it.

    Raises:
        DataError: If the file cannot be read or is no PNG or JPEG image.
    """
    try:
        with path.open("rb") as file:
            head = file.read(24)
            if head.startswith(PNG_MAGIC) and head[12:16] == b"IHDR" and len(head) == 24:
                return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    height, width = read_image(path).shape[:2]
    return height, width


def _declared_hw(data: bytes) -> tuple[int, int]:
    """Read height and width from the header of a PNG or JPEG file; 0, 0 where there are none."""
    if data.startswith(PNG_MAGIC):
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = data[place + 5 : place + 7], data[place + 7 : place + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        is_fill = marker == 0xFF
        place += 1 if is_fill else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return 0, 0


def _is_whole(data: bytes) -> bool:
    """Tell whether nothing is cut off: OpenCV fills what an image lacks with grey."""
    if not data.startswith(PNG_MAGIC):
        return data.startswith(b"\xff\xd8") and b"\xff\xd9" in data[-4096:]
    start = len(PNG_MAGIC)
    while start + 12 <= len(data) and data[start : start + 8] != b"\x00\x00\x00\x00IEND":
        start += 12 + int.from_bytes(data[start : start + 4], "big")
    return start + 12 <= len(data)
