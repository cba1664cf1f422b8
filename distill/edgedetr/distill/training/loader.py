"""From labelled frames to batches of network inputs, in an order that a seed fixes."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm
from typing_extensions import override

from edgedetr.distill.data import open_dataset
from edgedetr.distill.training.augment import augmented
from edgedetr.distill.training.teacher_views import teacher_views
from edgedetr.distill.training.unlabelled import MixedFrames, MixedOrder, unlabelled_count
from edgedetr.distill.training.worker_processes import end_with_parent
from edgedetr.distill.types import Targets
from edgedetr.runtime.errors import EdgeDetrError
from edgedetr.runtime.images.jpeg_warnings import jpeg_warnings, refuse_damaged_jpeg
from edgedetr.runtime.preprocess import Preprocessor, normalisation_tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from edgedetr.distill.config import DataConfig
    from edgedetr.distill.data import Dataset, Sample
    from edgedetr.distill.training.augment import Kind
    from edgedetr.distill.training.unlabelled import Order
    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.spec import ModelSpec

MEMORY_LIMIT_BYTES = 2 << 30
"""Resized images stay in memory while a split takes less than this; else each epoch reads anew."""


READ_AHEAD = 32
"""Frames that are decoded at once; at their own size they take much more memory."""


def open_splits(config: DataConfig) -> tuple[Dataset, Dataset]:
    """Open the training and the validation split of a run.

    Raises:
        DataError: If a folder or a file is missing, or a label is wrong.
    """
    train, validation = (
        open_dataset(config.format, config.root, split, config.classes, config.untrained)
        for split in (config.train_split, config.val_split)
    )
    return train, validation


def order_of(dataset: Dataset, config: DataConfig, batch_size: int, seed: int) -> Order:
    """Return the order of a training split, and report how many of its frames have no labels."""
    if not isinstance(dataset, MixedFrames):
        return EpochOrder(len(dataset), batch_size, seed)
    count = unlabelled_count(batch_size, config.unlabelled_share)
    labelled = len(dataset) - dataset.unlabelled
    tqdm.write(
        f"{dataset.unlabelled} frames of {config.unlabelled} have no labels: {count} of each batch "
        f"of {batch_size}"
    )
    order = EpochOrder(labelled, batch_size - count, seed)
    return MixedOrder(order, labelled, dataset.unlabelled, count, seed)


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
        spec: The student's input.
        teacher: The teacher's, in training with one; pixels are finer where it needs them.

    Attributes:
        dataset: The split.
        views: Makes the teacher's input; None where it sees the same pixels.
    """

    def __init__(self, dataset: Dataset, spec: ModelSpec, teacher: ModelSpec | None = None) -> None:
        self.dataset = dataset
        self.views = teacher_views(spec, teacher)
        self._spec = spec = self.views.fine(spec) if self.views else spec
        size = len(dataset) * 3 * spec.input_hw[0] * spec.input_hw[1]
        self._kept: dict[int, Inputs] | None = {} if size <= MEMORY_LIMIT_BYTES else None
        self._preprocess = Preprocessor(spec)
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
                        refuse_damaged_jpeg(self.dataset.paths[index])
                for index, sample in zip(some, samples, strict=True):
                    if self._kept is not None:
                        self._made(index, sample)

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

    def finished(self, pixels: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        """Turn augmented pixels into the student's input, and add the teacher's where it differs.

        Args:
            pixels: uint8 (3, H, W).
            targets: Their truth.
        """
        if self.views is None:
            return self.normalised(pixels), targets
        targets = replace(targets, view=self.views.view(pixels, targets))
        return self.normalised(self.views.shrunk(pixels)), targets

    def normalised(self, pixels: Tensor) -> Tensor:
        """Turn uint8 (3, H, W) into the network's float32 input, as the runtime does."""
        planes = zip(pixels.numpy(), self._tables, strict=True)
        return torch.from_numpy(np.stack([cv2.LUT(plane, table) for plane, table in planes]))

    def _resized(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Placement]:
        out = np.empty((3, *self._spec.input_hw), np.float32)
        place = self._preprocess(image, out)
        mean = np.array(self._spec.mean, np.float32)[:, None, None]
        std = np.array(self._spec.std, np.float32)[:, None, None]
        return np.rint((out * std + mean) * 255).astype(np.uint8), place


class TrainingInputs(TorchDataset[tuple[Tensor, Targets]]):
    """Augmented network inputs, indexed by (epoch, index of the frame).

    Attributes:
        kind: How they are augmented.
    """

    def __init__(self, inputs: NetworkInputs, kind: Kind, seed: int) -> None:
        self._inputs, self.kind, self._seed = inputs, kind, seed

    def __len__(self) -> int:
        return len(self._inputs)

    @override
    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Targets]:
        epoch, index = item
        inputs = self._inputs[index]
        seed = int(np.random.SeedSequence([self._seed, epoch, index]).generate_state(1)[0])
        pixels, targets = augmented(inputs.pixels, inputs.targets, self.kind, seed)
        return self._inputs.finished(pixels, targets)

    @property
    def has_views(self) -> bool:
        """Whether the teacher sees other pixels than the student."""
        return self._inputs.views is not None

    def read(self) -> None:
        """Read all images at once, see `NetworkInputs.read`."""
        self._inputs.read()

    def mirrored_too(self, count: int) -> Iterator[Tensor]:
        """Give all that the augmentation ``flip`` makes, ``count`` images at a time.

        Yields:
            Network inputs (2 * count, 3, H, W): some images, then the same ones mirrored.
        """
        for start in range(0, len(self), count):
            some = range(start, min(start + count, len(self)))
            images = torch.stack([self._inputs.normalised(self._inputs[i].pixels) for i in some])
            yield torch.cat([images, images.flip(-1)])


def _picture(place: Placement) -> Tensor | None:
    """Return where a letterboxed image lies, cxcywh in [0, 1], (1, 4); None where it fills all."""
    if place.placed_hw == place.input_hw:
        return None
    height, width = (
        placed / side for placed, side in zip(place.placed_hw, place.input_hw, strict=True)
    )
    return torch.tensor([[width / 2, height / 2, width, height]])


class EpochOrder:
    """Yields (epoch, index) of whole batches in the order of an epoch."""

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self._size, self._batch_size, self._seed = size, batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return max(1, self._size // self._batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng([self._seed, self.epoch]).permutation(self._size)
        for step in range(len(self)):
            chosen = order[step * self._batch_size : (step + 1) * self._batch_size]
            yield [(self.epoch, int(index)) for index in chosen]


class TrainingLoader:
    """Loads the batches of each epoch: images (B, 3, H, W) and the targets of each.

    Loader processes end with this one. An image that one of them cannot read raises here, in one
    line, as if it had been read here.

    Args:
        data: The training split.
        order: The order of each epoch, of frames without labels too.
        workers: Loader processes; 0 loads in this one.

    Attributes:
        data: The training split.
    """

    def __init__(self, data: TrainingInputs, order: Order, workers: int) -> None:
        self.data, self._order = data, order
        self._batches = DataLoader(
            _Attempts(data),
            batch_sampler=order,
            num_workers=workers,
            collate_fn=_collated,
            persistent_workers=workers > 0,
            worker_init_fn=partial(_start_worker, os.getpid()) if workers else None,
        )

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return len(self._order)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, list[Targets]]]:
        """Load one epoch; raises DataError or OSError."""
        self._order.epoch = epoch
        for batch in self._batches:
            if isinstance(batch, Exception):
                raise batch
            images, targets = batch
            if isinstance(targets, bytes):
                targets = list(pickle.loads(targets))  # noqa: S301 - this run's own process wrote it
            yield images, targets


@contextmanager
def one_line_of_workers() -> Iterator[None]:
    """Report in one line that a loader process ended; torch notices it wherever this one is.

    Raises:
        EdgeDetrError: If one was.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise EdgeDetrError(
            f"a process that loads images ended ({str(error).splitlines()[0].strip()}); if "
            "memory is short, lower data.workers or batch_size"
        ) from error


class _Attempts(TorchDataset["tuple[Tensor, Targets] | Exception"]):
    """Gives a known error as a value: torch would wrap what a loader process raises in a trace."""

    def __init__(self, data: TrainingInputs) -> None:
        self._data = data

    @override
    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Targets] | Exception:
        try:
            return self._data[item]
        except (EdgeDetrError, OSError) as error:
            return error


def _collated(
    items: Sequence[tuple[Tensor, Targets] | Exception],
) -> tuple[Tensor, list[Targets] | bytes] | Exception:
    """Stack images and list the targets; an error stands for the whole batch.

    A loader process hands its targets over as bytes.
    """
    for item in items:
        if isinstance(item, Exception):
            return item
    images, targets = zip(*items, strict=True)
    batch = torch.stack(images)
    if get_worker_info() is None:
        return batch, list(targets)
    try:
        batch.share_memory_()  # type: ignore[no-untyped-call]  # a lack of it is reported here
    except RuntimeError as error:
        return EdgeDetrError(
            f"a loader process cannot hand over a batch of {batch.nbytes / 2**20:.0f} MiB "
            f"({str(error).splitlines()[0]}); give /dev/shm more room (docker run --shm-size=2g) "
            "or set data.workers = 0"
        )
    return batch, pickle.dumps(targets)  # as tensors, each would keep a file open


def _start_worker(parent: int, _: int) -> None:
    end_with_parent(parent)
