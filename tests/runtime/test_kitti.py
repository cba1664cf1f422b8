from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedetr.runtime.errors import DataError, UsageError
from edgedetr.runtime.kitti import (
    check_folder,
    check_names,
    image_paths,
    result_path,
    results_text,
)
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_by_hand() -> None:
    found = Detections(
        np.array([[1, 2.5, 30.126, 40], [0, 0, 1242, 375]], np.float32),
        np.array([0.98765432, 0.5], np.float32),
        np.array([1, 0]),
    )
    assert results_text(found, ("Car", "traffic light")) == (
        "traffic_light -1 -1 -10 1.00 2.50 30.13 40.00 -1 -1 -1 -1000 -1000 -1000 -10 0.987654\n"
        "Car -1 -1 -10 0.00 0.00 1242.00 375.00 -1 -1 -1 -1000 -1000 -1000 -10 0.500000\n"
    )


def test_no_detection_is_an_empty_file() -> None:
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))
    assert results_text(nothing, ("Car",)) == ""


def test_a_result_folder_holds_no_other_results(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    result_path(tmp_path, "000007").write_text("")
    check_folder(tmp_path, replaced=["000007", "000008"])
    with pytest.raises(UsageError, match=r"holds other results \(000007\.txt\)"):
        check_folder(tmp_path, replaced=["000008"])
    with pytest.raises(UsageError, match=r"000007\.txt is a file"):
        check_folder(tmp_path / "000007.txt")


def test_two_frames_of_one_name_are_refused() -> None:
    check_names(["a", "b"])
    with pytest.raises(DataError, match="two images are called a;"):
        check_names(["a", "b", "a"])


@pytest.fixture
def root(tmp_path):
    """A folder of three empty images and a split of two of them."""
    (tmp_path / "training/image_2").mkdir(parents=True)
    (tmp_path / "ImageSets").mkdir()
    for name in "abc":
        (tmp_path / f"training/image_2/{name}.png").touch()
    (tmp_path / "ImageSets/train.txt").write_text("c\n\n a\n", encoding="utf-8-sig")
    return tmp_path


def test_a_split_lists_its_images_in_its_order(root):
    assert list(image_paths(root, "train")) == ["c", "a"]
    assert list(image_paths(root, "all")) == ["a", "b", "c"]
    assert image_paths(root, "train")["c"] == root / "training/image_2/c.png"


def test_two_images_of_a_frame_are_refused(root):
    (root / "training/image_2/a.jpg").touch()
    with pytest.raises(DataError, match=r"a\.png: the frame has another image, a\.jpg"):
        image_paths(root, "all")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a\nzz\n", r"train\.txt:2: frame 'zz' has no image"),
        (b" \n", r"train\.txt: the list is empty"),
        (b"\xff\xfe", r"train\.txt: not a readable text file"),
    ],
)
def test_a_bad_list_is_refused(root, text, message):
    (root / "ImageSets/train.txt").write_bytes(text)
    with pytest.raises(DataError, match=message):
        image_paths(root, "train")


def test_a_split_without_a_list_is_refused_with_the_nearest(root):
    (root / "ImageSets/._trial.txt").touch()
    with pytest.raises(DataError, match=r"trian\.txt: no such list; .*did you mean 'train'"):
        image_paths(root, "trian")
