"""JPEG files that decode although their pixel data is damaged."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import read_image, read_sound_image
from edgedetr.runtime.images.jpeg_warnings import jpeg_warnings, refuse_damaged_jpeg

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def jpeg() -> bytes:
    return bytes(cv2.imencode(".jpg", PIXELS)[1])


def with_damage() -> bytes:
    """Repeat a part of the scan, so that codes are left when all pixels are there."""
    data = jpeg()
    middle = (data.rfind(b"\xff\xda") + len(data)) // 2
    return data[:middle] + data[middle - 200 : middle] + data[middle:]


def test_damage_in_the_middle_of_a_scan_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(with_damage())
    assert (read_image(path) != PIXELS).any()
    assert "extraneous bytes" in capfd.readouterr().err
    for read in (read_sound_image, refuse_damaged_jpeg):
        with pytest.raises(DataError, match=r"a\.jpg: its pixel data is damaged \(Corrupt JPEG"):
            read(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("value", [b"\x00", b"\xa5"])
def test_padding_before_the_end_is_no_damage(tmp_path: Path, value: bytes) -> None:
    path, data = tmp_path / "a.jpg", jpeg()
    path.write_bytes(data)
    whole = read_image(path)
    path.write_bytes(data[:-2] + 100 * value + data[-2:])
    np.testing.assert_array_equal(read_sound_image(path), whole)
    refuse_damaged_jpeg(path)


def test_a_picture_of_another_format_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bytes(cv2.imencode(".png", PIXELS)[1]))
    refuse_damaged_jpeg(path)


def test_what_others_write_to_standard_error_arrives(capfd: pytest.CaptureFixture[str]) -> None:
    with jpeg_warnings() as warnings:
        os.write(2, b"Corrupt JPEG data: premature end of data segment\nmine\n")
    assert warnings == ["Corrupt JPEG data: premature end of data segment"]
    sys.stderr.write("after\n")
    assert capfd.readouterr().err == "mine\nafter\n"


def test_warnings_are_read_without_a_standard_error() -> None:
    kept = os.dup(2)
    os.close(2)
    try:
        with jpeg_warnings() as warnings:
            os.write(2, b"Corrupt JPEG data: bad Huffman code\n")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert warnings == ["Corrupt JPEG data: bad Huffman code"]
