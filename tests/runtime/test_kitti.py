from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgedetr.runtime.errors import DataError, UsageError
from edgedetr.runtime.kitti import (
    check_folder,
    check_names,
    image_paths,
    result_path,
)

if TYPE_CHECKING:
    from pathlib import Path


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
