"""The frames of a gate, in an order that favours nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from edgedetr.calib.frames import choose_frames
from edgedetr.distill.data import split_images
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.images import list_images, read_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def gate_images(
    images: Path | None, data: Path | None, count: int, kind: str | None = None
) -> list[Path]:
    """Choose images, evenly spread, and shuffle them, always in the same way.

    The first of them are then as good a sample of all as any.

    Args:
        images: A folder of images, or one image.
        data: A data set, whose validation split is used; instead of ``images``.
        count: How many to choose at most.
        kind: The format of the data set; None recognises it.

    Raises:
        UsageError: If both or none are given.
        DataError: If there is no image.
    """
    if images and not data:
        found = list_images(images)
    elif data and not images:
        found = split_images(data, "val", kind)
    else:
        raise UsageError("give either --data ROOT or --images DIR")
    chosen = choose_frames(found, count)
    return [chosen[i] for i in np.random.default_rng(0).permutation(len(chosen))]


class ImageFiles:
    """Image files as a collection of RGB images, uint8 (H, W, 3), each read when its turn comes.

    Args:
        paths: The files.
        task: What the progress bar is called.
    """

    def __init__(self, paths: Sequence[Path], task: str) -> None:
        self._paths, self._task = paths, task

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        bar = tqdm(self._paths, self._task, unit="frame", disable=None, leave=False)
        return map(read_image, bar)

    def __contains__(self, image: object) -> bool:
        return any(image is other for other in self)
