"""A split's images at the size of a network's input, before normalisation, with their truth."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor

from edgedetr.distill.labels.pictures import picture_header, require_sound
from edgedetr.distill.training.teacher_views import teacher_views
from edgedetr.distill.training.unlabelled import MixedFrames
from edgedetr.distill.types import Targets
from edgedetr.runtime.images.jpeg_warnings import jpeg_warnings
from edgedetr.runtime.preprocess import Preprocessor, normalisation_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.distill.data import Dataset, Sample
    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.spec import ModelSpec

MEMORY_LIMIT_BYTES = 2 << 30
"""Resized images stay in memory while a split takes less than this; else each epoch reads anew."""

READ_AHEAD = 32
"""Frames that are decoded at once; at their own size they take much more memory."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """One image as the network sees it.

    Attributes:
        pixels: uint8 (3, H, W), resized and not yet normalised.
        targets: Truth, cxcywh in [0, 1] of the network's input.
        place: Where the source image lies in the input.
    """

    pixels: Tensor
    targets: Targets
    place: Placement


class NetworkInputs:
    """A split's images at network size, read when first used.

    The resize is the runtime's `Preprocessor`; its result is taken back to uint8, exactly, so that
    augmentation works on pixels and memory holds a quarter.

    Args:
        dataset: The split.
        spec: Size and normalisation of the student's input.
        sizes: Sizes (H, W) that images get instead, each the one nearest to its own shape; empty
            gives all of them the spec's.
        teacher: The teacher's input, in training with one; pixels are finer where it needs them.

    Attributes:
        dataset: The split.
        pad_value: Grey level of areas that no image covers.
        unlabelled: How many of its frames, the last ones, have no labels.
        views: Makes the teacher's input; None where it sees the same pixels.
        stay_pixels: Whether what training sees stays uint8, to be normalised on its device.
    """

    def __init__(
        self,
        dataset: Dataset,
        spec: ModelSpec,
        sizes: Sequence[tuple[int, int]] = (),
        teacher: ModelSpec | None = None,
        *,
        stay_pixels: bool = False,
    ) -> None:
        self.dataset = dataset
        self.stay_pixels = stay_pixels
        self.pad_value = spec.pad_value
        self.unlabelled = dataset.unlabelled if isinstance(dataset, MixedFrames) else 0
        self.views = views = teacher_views(spec, teacher)
        specs = [replace(spec, input_hw=hw) for hw in sizes] or [spec]
        self._specs = [views.fine(own) for own in specs] if views else specs
        size = len(dataset) * 3 * max(prod(own.input_hw) for own in self._specs)
        self._kept: dict[int, Inputs] | None = {} if size <= MEMORY_LIMIT_BYTES else None
        self._preprocess = [Preprocessor(own) for own in self._specs]
        self._tables = normalisation_tables(spec)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Inputs:
        """Read one image; raises DataError when it cannot be read."""
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        return self._made(index, self.dataset[index])

    def read(self) -> None:
        """Read all images, by as many threads as there are cores, if memory can hold them."""
        if self._kept is not None:
            self.check()

    def check(self) -> None:
        """Read every image once, also where memory cannot hold them all.

        Raises:
            DataError: If an image cannot be read, or a JPEG file is damaged.
        """
        kept = self._kept or {}
        missing = [i for i in range(len(self)) if i not in kept]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(missing), READ_AHEAD):
                some = missing[start : start + READ_AHEAD]
                with jpeg_warnings() as warnings:
                    samples = list(pool.map(self.dataset.__getitem__, some))
                if warnings:  # threads do not say which file it was
                    for index in some:
                        require_sound(self.dataset.paths[index])
                for index, sample in zip(some, samples, strict=True):
                    if self._kept is not None:
                        self._made(index, sample)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Which of its sizes each image gets, (N,); of several, by the header of its file.

        Raises:
            DataError: If a header cannot be read.
        """
        if len(self._specs) == 1:
            return np.zeros(len(self), np.int64)
        sizes = (self._nearest_size(picture_header(path).hw) for path in self.dataset.paths)
        return np.fromiter(sizes, np.int64, len(self))

    def _nearest_size(self, hw: tuple[int, ...]) -> int:
        """Return which size has the aspect ratio nearest to an image's; the first of equals."""
        aspect = math.log(hw[0] / hw[1])
        off = [abs(math.log(s.input_hw[0] / s.input_hw[1]) - aspect) for s in self._specs]
        return off.index(min(off))

    def _made(self, index: int, sample: Sample) -> Inputs:
        """Bring a frame to network size, in the calling thread; keep it if memory can."""
        pixels, place = self._resized(sample.frame.image)
        truth = sample.truth
        targets = Targets(
            labels=torch.from_numpy(truth.labels),
            boxes=torch.from_numpy(place.to_input(truth.boxes)),
            ignored=torch.from_numpy(place.to_input(truth.ignored)),
            frame_id=sample.frame.frame_id,
            picture=_picture(place),
            labelled=sample.labelled,
            source_hw=place.source_hw,
        )
        inputs = Inputs(torch.from_numpy(pixels), targets, place)
        if self._kept is not None:
            self._kept[index] = inputs
        return inputs

    @property
    def finer(self) -> tuple[int, int]:
        """How many pixels along height and width are one of the student's input."""
        return self.views.finer if self.views else (1, 1)

    def finished(self, pixels: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        """Turn augmented pixels into the student's input, and add the teacher's where it differs.

        With ``stay_pixels`` the student's input stays uint8.

        Args:
            pixels: uint8 (3, H, W).
            targets: Their truth.
        """
        if self.views is not None:
            targets = replace(targets, view=self.views.view(pixels, targets))
            pixels = self.views.shrunk(pixels)
        return pixels if self.stay_pixels else self.normalised(pixels), targets

    def normalised(self, pixels: Tensor) -> Tensor:
        """Turn uint8 (3, H, W) into the network's float32 input, as the runtime does."""
        planes = zip(pixels.numpy(), self._tables, strict=True)
        return torch.from_numpy(np.stack([cv2.LUT(plane, table) for plane, table in planes]))

    def _resized(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Placement]:
        group = self._nearest_size(image.shape[:2])
        spec = self._specs[group]
        out = np.empty((3, *spec.input_hw), np.float32)
        place = self._preprocess[group](image, out)
        mean = np.array(spec.mean, np.float32)[:, None, None]
        std = np.array(spec.std, np.float32)[:, None, None]
        return np.rint((out * std + mean) * 255).astype(np.uint8), place


def _picture(place: Placement) -> Tensor | None:
    """Return where a letterboxed image lies, cxcywh in [0, 1], (1, 4); None where it fills all."""
    if place.placed_hw == place.input_hw:
        return None
    height, width = (
        placed / side for placed, side in zip(place.placed_hw, place.input_hw, strict=True)
    )
    return torch.tensor([[width / 2, height / 2, width, height]])
