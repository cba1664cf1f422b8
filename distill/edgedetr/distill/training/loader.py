"""From labelled frames to batches of network inputs, in an order that a seed fixes."""

from __future__ import annotations

import os
import pickle
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm
from typing_extensions import override

from edgedetr.distill.data import open_dataset
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.sampling import ALONE, EpochOrder, Share, repeat_factors
from edgedetr.distill.training.training_inputs import TrainingInputs
from edgedetr.distill.training.unlabelled import MixedOrder, unlabelled_count, with_unlabelled
from edgedetr.distill.training.worker_processes import end_with_parent, leave_sigterm_to
from edgedetr.runtime.errors import EdgeDetrError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgedetr.distill.config import DataConfig
    from edgedetr.distill.data import Dataset
    from edgedetr.distill.optimizer_config import ScheduleConfig
    from edgedetr.distill.picture import Picture
    from edgedetr.distill.training.unlabelled import Order
    from edgedetr.distill.types import Targets
    from edgedetr.runtime.spec import ModelSpec


def open_splits(config: DataConfig) -> tuple[Dataset, Dataset]:
    """Open the training and the validation split of a run.

    Raises:
        DataError: If a folder or a file is missing, or a label is wrong.
    """
    return open_split(config, config.train_split), open_split(config, config.val_split)


def open_split(config: DataConfig, split: str) -> Dataset:
    """Open one split; raises DataError if a folder or a file is missing, or a label is wrong."""
    return open_dataset(config.format, config.root, split, config.classes, config.untrained)


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

    @property
    def only_mirrors(self) -> bool:
        """Whether images of one size and their mirror images are all that it loads."""
        return self.data.only_mirrors and self._order.has_one_size

    def pictures(self, epoch: int) -> Iterator[Picture]:
        """Give the augmented pictures of an epoch, in their order, before normalisation."""
        self._order.epoch, self._order.done = epoch, 0
        for batch in self._order:
            for item in batch:
                yield self.data.picture(item)

    def batches(self, epoch: int, done: int = 0) -> Iterator[tuple[Tensor, list[Targets]]]:
        """Load one epoch but for its first ``done`` batches; raises DataError or OSError."""
        self._order.epoch, self._order.done = epoch, done
        for batch in self._batches:
            if isinstance(batch, Exception):
                raise batch
            images, targets = batch
            if isinstance(targets, bytes):
                targets = list(pickle.loads(targets))  # noqa: S301 - this run's own process wrote it
            yield images, targets


def training_loader(
    data: DataConfig,
    schedule: ScheduleConfig,
    split: Dataset,
    spec: ModelSpec,
    teacher: ModelSpec | None = None,
    share: Share = ALONE,
    passes: int = 1,
    *,
    stay_pixels: bool = False,
) -> TrainingLoader:
    """Make the loader of a run, and report how many of its frames have no labels.

    Args:
        data: How it samples and augments.
        schedule: Its epochs, batch size and seed.
        split: To train on; frames without labels come from the folder that ``data`` names.
        spec: The student's.
        teacher: The teacher's, in training with one.
        share: What this process takes of each batch.
        passes: In how many passes it takes that.
        stay_pixels: Whether images stay uint8, to be normalised on their device.

    Raises:
        UsageError: If a batch has too few images for the processes and their passes.
        DataError: If an image must be read for its size, and cannot be, or the folder holds none.
    """
    plain_from = None
    if data.no_aug_epochs:
        plain_from = schedule.epochs - data.no_aug_epochs
    inputs = NetworkInputs(
        with_unlabelled(split, data), spec, data.rectangular, teacher, stay_pixels=stay_pixels
    )
    count = unlabelled_count(schedule.batch_size, data.unlabelled_share) if inputs.unlabelled else 0
    factors = None
    if data.repeat_threshold:
        factors = repeat_factors(split.truths, len(data.classes), data.repeat_threshold)
    order: Order = EpochOrder(
        len(split),
        schedule.batch_size - count,
        schedule.seed,
        share=share,
        factors=factors,
        groups=inputs.groups if data.rectangular else None,
        scales=data.scales,
        plain_from=plain_from,
    )
    if inputs.unlabelled:
        order = MixedOrder(order, len(split), inputs.unlabelled, count, schedule.seed, share)
        tqdm.write(
            f"{inputs.unlabelled} frames of {data.unlabelled} have no labels: {count} of each "
            f"batch of {schedule.batch_size}"
        )
    require_images(order.least_images, share, passes)
    images = TrainingInputs(inputs, data.augment, schedule.seed, plain_from)
    return TrainingLoader(images, order, data.workers)


def require_images(images: int, share: Share, passes: int) -> None:
    """Refuse batches of which a process, or a pass, would get no image.

    Args:
        images: Of one kind, with labels or without, in the smallest batch.
        share: What a process takes.
        passes: In how many passes it takes that.

    Raises:
        UsageError: If there are too few.
    """
    wanted = share.count * passes
    if images < wanted:
        raise UsageError(
            f"a batch has {images} images of a kind (with labels or without) for {share.count} "
            f"processes and {passes} passes each, wanted at least {wanted}; raise batch_size or "
            "data.unlabelled_share, or lower train.accumulate or the number of processes"
        )


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
    leave_sigterm_to(parent)
