"""Read camera images from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".png", ".jpg", ".jpeg")
"""What counts as an image, in lower case."""
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def list_images(folder: Path) -> list[Path]:
    """List a folder's images, sorted by name.

    Raises:
        DataError: If the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; wanted a folder of {', '.join(SUFFIXES)} images"
        )
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{folder}: holds no image; wanted {', '.join(SUFFIXES)} files")
    return found


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as RGB pixels, uint8 of shape (H, W, 3), owned by the caller.

    Raises:
        DataError: If the file is missing, empty, cut off or no image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not _is_whole(data):
        raise DataError(
            f"{path}: not a whole PNG or JPEG image ({len(data)} bytes); replace the file"
        )
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


def _is_whole(data: bytes) -> bool:
    """Tell whether nothing is cut off: OpenCV fills what an image lacks with grey."""
    if not data.startswith(PNG_MAGIC):
        return data.startswith(b"\xff\xd8") and b"\xff\xd9" in data[-4096:]
    start = len(PNG_MAGIC)
    while start + 12 <= len(data) and data[start : start + 8] != b"\x00\x00\x00\x00IEND":
        start += 12 + int.from_bytes(data[start : start + 4], "big")
    return start + 12 <= len(data)
