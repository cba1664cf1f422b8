from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import read_image
from edgedetr.runtime.images.headers import jpeg_end
from edgedetr.runtime.images.jpeg_scans import ends_early

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FLAGS = {
    "baseline": [],
    "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 4],
    "optimised": [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    "4:4:4": [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
}


def picture() -> NDArray[np.uint8]:
    """A picture without flat parts, 133 x 91 px."""
    small = np.random.default_rng(0).integers(0, 255, (12, 20, 3), np.uint8)
    return np.asarray(cv2.resize(small, (133, 91), interpolation=cv2.INTER_CUBIC), np.uint8)


def jpeg(image: NDArray[np.uint8], flags: Sequence[int] = ()) -> bytes:
    return bytes(cv2.imencode(".jpg", image, list(flags))[1].tobytes())


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_cut_scan_with_an_end_marker_is_refused(tmp_path: Path, name: str, share: float) -> None:
    data = jpeg(picture(), FLAGS[name])
    start = data.index(b"\xff\xda")
    cut = data[: start + int(share * (len(data) - start))].rstrip(b"\xff")
    path = tmp_path / "cut.jpg"
    path.write_bytes(cut + b"\xff\xd9")
    with pytest.raises(DataError, match=r"cut\.jpg: its pixel data is cut off"):
        read_image(path)
    path.write_bytes(cut + b"\xff\xd9" + b"trailer" * 1000)
    with pytest.raises(DataError, match="its pixel data is cut off"):
        read_image(path)


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("bottom", [0, 91, 40, 1])
def test_whole_pictures_are_read_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, bottom: int
) -> None:
    """Also where the picture itself ends in grey, as a padded one does."""
    image = picture()
    image[91 - bottom :] = 128
    path = tmp_path / "whole.jpg"
    path.write_bytes(jpeg(image, FLAGS[name]))
    assert read_image(path).shape == (91, 133, 3)
    path.write_bytes(path.read_bytes() + bytes(9000))  # a phone's or camera's trailer
    assert read_image(path).shape == (91, 133, 3)
    assert capfd.readouterr().err == ""


def test_a_grey_last_block_is_decided_by_more_bytes(tmp_path: Path) -> None:
    image = picture()
    image[80:, 112:] = 128  # the last unit alone: its DC differs from the one before
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(image))
    assert read_image(path).shape == (91, 133, 3)


@pytest.mark.parametrize("missing", [b"\xff\xc4", b"\xff\xc0"])
def test_headers_that_are_not_what_they_say_end_early(missing: bytes) -> None:
    data = jpeg(np.full((16, 16, 3), 128, np.uint8))
    place = data.index(missing)
    broken = data[: place + 2] + b"\x00\x02" + data[place + 4 :]
    assert jpeg_end(broken) > 0
    assert ends_early(broken, np.full((16, 16, 3), 128, np.uint8), lambda _: None)
