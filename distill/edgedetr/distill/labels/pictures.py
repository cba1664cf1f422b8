"""Pictures of a data set: files, or members of tar shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.distill.labels.shard_files import Member
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import read_image, read_sound_image
from edgedetr.runtime.images.headers import ImageHeader, image_header
from edgedetr.runtime.images.jpeg_warnings import jpeg_warnings, refuse_damaged_jpeg
from edgedetr.runtime.images.reading import decode_image

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as RGB pixels, uint8 (H, W, 3), upright.

    Raises:
        DataError: If it cannot be read, or has another size than the index of its shard says.
    """
    if not isinstance(path, Member):
        return read_image(path)
    image = decode_image(path.read(), path)
    if image.shape[:2] != path.hw:
        raise DataError(f"{path}: is {image.shape[:2]} (H, W), its index has {path.hw}")
    return image


def read_sound_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture, and refuse a JPEG that its decoder warns of; see `read_sound_image`."""
    if not isinstance(path, Member):
        return read_sound_image(path)
    with jpeg_warnings() as warnings:
        image = read_picture(path)
    if warnings:
        require_sound(path)
    return image


def require_sound(path: Path) -> None:
    """Stop at a JPEG whose decoder warns; raises DataError."""
    refuse_damaged_jpeg(path, path.read() if isinstance(path, Member) else None)


def picture_header(path: Path) -> ImageHeader:
    """Return the size of a picture without reading its pixels; of a shard's, as its index says.

    Raises:
        DataError: If it cannot be read.
    """
    return ImageHeader(path.hw) if isinstance(path, Member) else image_header(path)
