"""Read camera images from disk."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import read_bytes
from edgedetr.runtime.images.headers import (
    MOST_BYTES,
    UPRIGHT,
    header_of,
    image_header,
    is_whole,
)
from edgedetr.runtime.images.jpeg_scans import ends_early
from edgedetr.runtime.images.jpeg_warnings import jpeg_warnings, refuse_damaged_jpeg
from edgedetr.runtime.printable import printable
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from numpy.typing import NDArray

SUFFIXES = (".png", ".jpg", ".jpeg")
"""Suffixes of image files, in lower case."""
MOST_PIXELS = 1 << 27
"""Most pixels that are decoded: a small file may claim billions."""
MOST_FRAMES = 128
"""Most images that `read_frames` holds in memory."""
MOST_FRAME_BYTES = 1 << 30
"""Most bytes of pixels that it holds."""
_LOG = logging.getLogger(__name__)


def list_images(path: str | os.PathLike[str]) -> list[Path]:
    """List a folder's images, sorted by name; of an image itself, that one.

    Hidden files, such as macOS's ``._a.png``, are no images. Pipes, devices and folders that are
    named like one are skipped, with a warning.

    Raises:
        DataError: If there is no such folder or image, or the folder holds no image.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return [path]
    if not path.is_dir():
        problem = "not an image file" if path.is_file() else "no such folder or image"
        raise DataError(f"{path}: {problem}; wanted {', '.join(SUFFIXES)} or a folder of them")
    found = []
    for named in sorted(path.iterdir()):
        if named.suffix.lower() not in SUFFIXES or named.name.startswith("."):
            continue
        if named.is_file() or not named.exists():  # a link to nothing is an image that is missing
            found.append(named)
        else:
            _LOG.warning("%s is not a regular file and is skipped", printable(str(named)))
    if not found:
        raise DataError(f"{path}: holds no image; wanted {', '.join(SUFFIXES)} files")
    return found


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image as RGB pixels, uint8 of shape (H, W, 3), owned by the caller.

    It is turned upright as EXIF's orientation says, in a JPEG as in a PNG file.

    Raises:
        DataError: If the file is missing, empty, cut off, not an image or not a regular file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # to open a pipe would wait for who writes it
        raise DataError(f"{path}: not a regular file; wanted a PNG or JPEG image")
    try:
        data = read_bytes(path, MOST_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return decode_image(data, path)


def decode_image(data: bytes, path: Path) -> NDArray[np.uint8]:
    """Decode the bytes of an image as `read_image` does.

    Args:
        data: Of the whole file.
        path: Its name, for messages.

    Raises:
        DataError: If they are empty, cut off or no image.
    """
    header = header_of(data)
    if not is_whole(data) or not all(header.stored_hw):
        raise DataError(
            f"{path}: not a whole PNG or JPEG image ({len(data)} bytes), or one of far more data "
            "than pixels; replace the file"
        )
    height, width = header.stored_hw
    if height * width > MOST_PIXELS:
        raise DataError(f"{path}: claims {width}x{height} pixels; at most {MOST_PIXELS} are read")
    image = _decoded(data)
    if image is None or image.shape[:2] != header.stored_hw:
        raise DataError(f"{path}: cannot be decoded as an image; replace the file")
    if ends_early(data, image, _decoded):
        raise DataError(f"{path}: its pixel data is cut off; replace the file")
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return _upright(cast("NDArray[np.uint8]", rgb), header.orientation)


def read_frames(
    paths: Iterable[Path], most: int = MOST_FRAMES, most_bytes: int = MOST_FRAME_BYTES
) -> list[Frame]:
    """Read the first images, as many as may be held in memory, one at least.

    Args:
        paths: The images.
        most: How many to read at most.
        most_bytes: How many bytes their pixels may take together.

    Raises:
        DataError: If one cannot be read.
    """
    frames: list[Frame] = []
    for path in islice(paths, most):
        image = read_image(path)
        most_bytes -= image.nbytes
        if frames and most_bytes < 0:
            break
        frames.append(Frame(image, frame_id=path.stem))
    return frames


def read_sound_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image as `read_image` does, and refuse a JPEG that its decoder warns of.

    For one thread: standard error of the process is looked at meanwhile, see `jpeg_warnings`.

    Raises:
        DataError: As `read_image`, and if the pixel data is damaged somewhere.
    """
    with jpeg_warnings() as warnings:
        image = read_image(path)
    if warnings:
        refuse_damaged_jpeg(Path(path))
    return image


def image_hw(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return height and width in pixels of an image as it is read, without decoding it.

    Raises:
        DataError: If the file cannot be read or is no PNG or JPEG image with a size.
    """
    return image_header(Path(path)).hw


def _decoded(data: bytes) -> NDArray[np.uint8] | None:
    """Decode to BGR pixels as they are stored; None where OpenCV cannot."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cast("NDArray[np.uint8]", cv2.imdecode(np.frombuffer(data, np.uint8), flags))
    except cv2.error:
        return None


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn stored pixels upright; EXIF's orientations 5 to 8 are transposed, too."""
    if orientation == UPRIGHT:
        return image
    if orientation > 4:
        image = image.transpose(1, 0, 2)
    rows, columns = _FLIPS[orientation]
    return np.ascontiguousarray(image[::rows, ::columns])


_FLIPS = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
"""Steps through rows and columns for each orientation, after the transposition."""
