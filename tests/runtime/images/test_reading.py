from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import image_hw, list_images, read_frames, read_image

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, rgb: tuple[int, int, int] = (250, 20, 10)) -> Path:
    image = np.full((6, 9, 3), rgb[::-1], np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def test_reads_rgb_and_not_bgr(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "a.png"))
    assert image.shape == (6, 9, 3)
    assert image.dtype == np.uint8
    assert image[2, 3].tolist() == [250, 20, 10]


def test_grey_images_get_three_channels(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    path.write_bytes(cv2.imencode(".png", np.full((4, 5), 77, np.uint8))[1].tobytes())
    assert read_image(path)[0, 0].tolist() == [77, 77, 77]


def test_lists_images_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.JPEG", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in list_images(tmp_path)] == ["a.jpg", "b.png", "c.JPEG"]


def test_an_image_is_as_good_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.JPG").touch()
    assert list_images(tmp_path / "a.JPG") == [tmp_path / "a.JPG"]
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"notes\.txt: not an image file; wanted \.png, \.jpg"):
        list_images(tmp_path / "notes.txt")


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "nothing")
    with pytest.raises(DataError, match="holds no image"):
        list_images(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_cut_off_image_is_refused(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    data = cv2.imencode(suffix, rng.integers(0, 255, (90, 90, 3), np.uint8))[1].tobytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="not a whole PNG or JPEG"):
        read_image(path)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"IEND" * 4])
def test_what_is_no_image_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    for read in (read_image, image_hw):
        with pytest.raises(DataError, match=r"bad\.png"):
            read(path)


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    for name in ("._a.jpg", "a.jpg"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [tmp_path / "a.jpg"]


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    for read in (read_image, image_hw):
        with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
            read(tmp_path / "gone.png")


def test_what_is_no_ordinary_file_is_passed_over_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").mkdir()
    (tmp_path / "d.png").symlink_to("nowhere")
    assert [p.name for p in list_images(str(tmp_path))] == ["a.png", "d.png"]
    for name in "bc":
        assert f"{name}.png is not a regular file and is skipped" in caplog.text
    for read in (read_image, image_hw):
        with pytest.raises(DataError, match=r"b\.png: not a regular file"):
            read(str(tmp_path / "b.png"))


@pytest.mark.parametrize("before", [b"", b"\x00", b"\xff\xd0", b"\xff\x01", b"\xff\xff\xff"])
def test_a_small_file_that_claims_a_huge_picture_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    data = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (32_700).to_bytes(2, "big") * 2
    path = tmp_path / "bomb.jpg"
    path.write_bytes(data[:frame] + before + data[frame:])
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(DataError, match=r"claims 32700x32700 pixels|not a whole"):
        read_image(path)


def test_frames_in_memory_are_bounded(images: Path) -> None:
    paths = sorted(images.iterdir())  # two of 20 x 40 pixels
    frames = read_frames(paths)
    assert [f.frame_id for f in frames] == ["000001", "000002"]
    assert [int(f.image.mean()) for f in frames] == [255, 0]
    assert len(read_frames(paths, most=1)) == 1
    size = 3 * 20 * 40
    assert [len(read_frames(paths, most_bytes=n)) for n in (2 * size, 2 * size - 1, 1)] == [2, 1, 1]
