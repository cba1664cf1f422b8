"""The frames to calibrate on: those of a data set's training split, or some of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import list_images

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence


def choose_frames(images: Sequence[Path], count: int) -> list[Path]:
    """Take at most ``count`` frames, evenly spread over all.

    >>> choose_frames([Path("a.png"), Path("b.png"), Path("c.png"), Path("d.png")], 2)
    [PosixPath('a.png'), PosixPath('c.png')]
    """
    if count >= len(images):
        return list(images)
    return [images[i * len(images) // count] for i in range(count)]


def kitti_images(root: str | os.PathLike[str]) -> list[Path]:
    """List the training split's images of a KITTI object folder; all where no split is given.

    Raises:
        DataError: If the folder is missing or the split names a frame that has no image.
    """
    root = Path(root)
    folder = root / "training" / "image_2"
    images = list_images(folder)
    split = root / "ImageSets" / "train.txt"
    if not split.is_file():
        return images
    by_name = {image.stem: image for image in images}
    chosen = []
    for number, line in enumerate(split.read_text(encoding="utf-8").splitlines(), 1):
        name = line.strip()
        if name and name not in by_name:
            raise DataError(f"{split}:{number}: the frame {name!r} has no image in {folder}")
        if name:
            chosen.append(by_name[name])
    if not chosen:
        raise DataError(f"{split}: names no frame")
    return chosen
