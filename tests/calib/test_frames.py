"""Which frames calibration takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgedetr.calib.frames import choose_frames, kitti_images
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def test_frames_are_spread_evenly(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(10)]
    assert [int(p.name) for p in choose_frames(paths, 4)] == [0, 2, 5, 7]
    assert choose_frames(paths, 11) == paths


def test_the_training_split_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "training" / "image_2"
    folder.mkdir(parents=True)
    images = [folder / f"{number:06}.png" for number in range(3)]
    for path in images:
        path.touch()
    assert kitti_images(tmp_path) == images
    split = tmp_path / "ImageSets" / "train.txt"
    split.parent.mkdir()
    split.write_text("000002\n\n000000\n", encoding="utf-8")
    assert kitti_images(tmp_path) == [images[2], images[0]]
    split.write_text("000000\n000009\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.txt:2: frame '000009' has no image"):
        kitti_images(tmp_path)
    split.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="the list is empty"):
        kitti_images(tmp_path)
