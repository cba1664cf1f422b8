"""Size and orientation in the headers of PNG and JPEG files."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import image_hw, read_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def write(path: Path, rgb: tuple[int, int, int] = (250, 20, 10)) -> Path:
    image = np.full((6, 9, 3), rgb[::-1], np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG"])
def test_header_gives_the_size(tmp_path: Path, name: str) -> None:
    assert image_hw(write(tmp_path / name)) == (6, 9)


def exif(orientation: int, order: str) -> bytes:
    """EXIF data with an orientation, in either order of bytes."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, 1)
    return head + struct.pack(f"{order}HHIHH", 0x112, 3, 1, orientation, 0) + bytes(4)


def with_exif(suffix: str, image: NDArray[np.uint8], tiff: bytes, *, late: bool) -> bytes:
    data = cv2.imencode(suffix, image)[1].tobytes()
    if suffix == ".jpg":
        body = b"Exif\0\0" + tiff
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    chunk = b"eXIf" + tiff
    chunk = struct.pack(">I", len(tiff)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    place = len(data) - 12 if late else 33
    return data[:place] + chunk + data[place:]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "order", "late"),
    [(".jpg", "<", False), (".jpg", ">", False), (".png", "<", True), (".png", ">", False)],
)
def test_pictures_are_read_upright_and_the_header_says_so(
    tmp_path: Path, orientation: int, suffix: str, order: str, *, late: bool
) -> None:
    grid = np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(with_exif(suffix, grid, exif(orientation, order), late=late))
    as_opencv = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert as_opencv is not None
    assert np.array_equal(read_image(path), as_opencv[..., ::-1])
    assert image_hw(path) == as_opencv.shape[:2]


@pytest.mark.parametrize("before", [b"\x00", b"\xff\xd0", b"\xff\x01", b"\xff\xff\xff"])
def test_a_size_behind_stray_bytes_is_found_before_decoding(tmp_path: Path, before: bytes) -> None:
    data = write(tmp_path / "a.jpg").read_bytes()
    place = data.index(b"\xff\xc0")
    huge = data[: place + 5] + struct.pack(">HH", 32700, 32700) + data[place + 9 :]
    path = tmp_path / "bomb.jpg"
    path.write_bytes(huge[:place] + before + huge[place:])
    assert image_hw(path) == (32700, 32700)
    with pytest.raises(DataError, match="claims 32700x32700 pixels"):
        read_image(path)


def test_a_size_that_the_header_does_not_say_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jpg").read_bytes()
    place = data.index(b"\xff\xc0")
    path = tmp_path / "later.jpg"
    path.write_bytes(data[: place + 5] + b"\0\0" + data[place + 7 :])  # T.81: the height may follow
    for read in (read_image, image_hw):
        with pytest.raises(DataError, match=r"later\.jpg"):
            read(path)


def test_a_file_of_far_more_data_than_pixels_is_not_decoded(tmp_path: Path) -> None:
    """Both would be decoded, in minutes: thousands of scans, and bytes behind the pixels."""
    image = np.zeros((64, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = data[data.rindex(b"\xff\xda") : -2]
    whole, many = tmp_path / "whole.jpg", tmp_path / "many.jpg"
    whole.write_bytes(data[:-2] + 20 * scan + data[-2:])
    assert read_image(whole).shape == (64, 64, 3)
    many.write_bytes(data[:-2] + 60 * scan + data[-2:])
    pixels = b"".join(b"\0" + bytes(3 * 64) for _ in range(64))
    padded = tmp_path / "padded.png"
    noise = zlib.compress(pixels + np.random.default_rng(0).bytes(200_000))
    head = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", noise), (b"IEND", b""))
    padded.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks))
    for path in (many, padded):
        with pytest.raises(DataError, match="of far more data than pixels"):
            read_image(path)


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
