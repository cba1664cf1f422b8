"""The frames to calibrate on: those of a data set's training split, or some of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import in_any_case
from edgedetr.runtime.images import read_image
from edgedetr.runtime.kitti import image_paths

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    TrainingImages = Callable[[Path, str | None], list[Path]]
    """Lists the training split's images of a data set: its folder, its format or None."""


def choose_frames(images: Sequence[Path], count: int) -> list[Path]:
    """Take at most ``count`` frames, evenly spread over all.

    >>> choose_frames([Path("a.png"), Path("b.png"), Path("c.png"), Path("d.png")], 2)
    [PosixPath('a.png'), PosixPath('c.png')]
    """
    if count >= len(images):
        return list(images)
    return [images[i * len(images) // count] for i in range(count)]


def frames_sha256(images: Sequence[Path]) -> str:
    """Hash the RGB pixels of images, in order, as calibration does.

    Raises:
        DataError: If an image cannot be read.
    """
    digest = hashlib.sha256()
    for image in images:
        digest.update(read_image(image).tobytes())
    return digest.hexdigest()


def only_kitti(root: Path, kind: str | None) -> list[Path]:
    """List a KITTI folder's training images: what calibration knows by itself.

    Raises:
        UsageError: If another format is wanted, which the distillation stage reads.
    """
    if kind not in {None, "kitti"}:
        raise UsageError(f"the format {kind!r} needs the distillation stage; give --images DIR")
    return kitti_images(root)


def kitti_images(root: str | os.PathLike[str]) -> list[Path]:
    """List the training split's images of a KITTI object folder; all where no split is given.

    Raises:
        DataError: If the folder is missing or the split names a frame that has no image.
    """
    has_split = in_any_case(Path(root) / "ImageSets" / "train.txt").is_file()
    return list(image_paths(root, "train" if has_split else "all").values())
