import hashlib

import cv2
import numpy as np
import pytest

from edgedetr.distill.labels.pictures import (
    picture_header,
    read_picture,
    read_sound_picture,
    require_sound,
)
from edgedetr.distill.labels.shard_files import member
from edgedetr.runtime.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def in_shard(folder, data, suffix, hw=(48, 64)):
    (folder / "a.tar").write_bytes(b"head" + data + b"tail")
    digest = hashlib.sha256(data).hexdigest()
    return member(folder / "a.tar", f"x{suffix}", (4, len(data)), digest, hw)


def encoded(suffix):
    return bytes(cv2.imencode(suffix, PIXELS)[1])


def test_a_picture_of_a_shard_is_that_of_the_file(tmp_path):
    file = tmp_path / "x.png"
    file.write_bytes(encoded(".png"))
    path = in_shard(tmp_path, encoded(".png"), ".png")
    for read in (read_picture, read_sound_picture):
        np.testing.assert_array_equal(read(path), read(file))
    assert picture_header(path).hw == picture_header(file).hw == (48, 64)


def test_what_is_no_picture_or_of_another_size_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"a\.tar/x\.png: not a whole PNG or JPEG image \(5 bytes"):
        read_picture(in_shard(tmp_path, b"12345", ".png"))
    with pytest.raises(DataError, match=r"is \(48, 64\) \(H, W\), its index has \(48, 60\)"):
        read_picture(in_shard(tmp_path, encoded(".png"), ".png", (48, 60)))


def test_a_damaged_jpeg_in_a_shard_is_refused(tmp_path):
    data = encoded(".jpg")
    middle = (data.rfind(b"\xff\xda") + len(data)) // 2
    require_sound(in_shard(tmp_path, data, ".jpg"))
    path = in_shard(tmp_path, data[:middle] + data[middle - 100 :], ".jpg")  # a part is there twice
    for read in (read_sound_picture, require_sound):
        with pytest.raises(DataError, match=r"x\.jpg: its pixel data is damaged"):
            read(path)
