"""From labelled frames to batches of network inputs, in an order that a seed fixes."""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm
from typing_extensions import override

from edgedetr.distill.data import open_dataset
from edgedetr.distill.labels.shard_files import shards_of
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.sampling import ALONE, EpochOrder, Item, Share, repeat_factors
from edgedetr.distill.training.training_inputs import TrainingInputs
from edgedetr.distill.training.unlabelled import MixedOrder, unlabelled_count, with_unlabelled
from edgedetr.distill.training.worker_processes import end_with_parent, leave_sigterm_to
from edgedetr.runtime.errors import DataError, EdgeDetrError, UsageError
from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from edgedetr.distill.config import DataConfig
    from edgedetr.distill.data import Dataset
    from edgedetr.distill.optimizer_config import ScheduleConfig
    from edgedetr.distill.picture import Picture
    from edgedetr.distill.training.sampling import Item
    from edgedetr.distill.training.unlabelled import Order
    from edgedetr.distill.types import Targets
    from edgedetr.runtime.spec import ModelSpec

    Loaded: TypeAlias = tuple[Tensor, Targets, tuple[str, ...]]
    """One image, its truth, and what is wrong with those whose place it takes."""

MOST_STAND_INS = 8
"""Pictures that are tried in the place of one that cannot be read."""


def open_splits(config: DataConfig) -> tuple[Dataset, Dataset]:
    """Open the training and the validation split of a run.

    Raises:
        DataError: If a folder or a file is missing, or a label is wrong.
    """
    return open_split(config, config.train_split), open_split(config, config.val_split)


def open_split(config: DataConfig, split: str) -> Dataset:
    """Open one split; raises DataError if a folder or a file is missing, or a label is wrong."""
    return open_dataset(config.format, config.root, split, config.classes, config.untrained)


@dataclass(frozen=True)
class Loading:
    """What a process takes of a training split, and how.

    Attributes:
        views: How many pictures an image has, see `TrainingInputs`.
        share: What the process takes of each batch.
        passes: In how many passes it takes that.
        stay_pixels: Whether images stay uint8, to be normalised on their device.
        on_device: Whether they are augmented there too, as far as can be; they stay uint8 then.
    """

    views: int = 0
    share: Share = ALONE
    passes: int = 1
    stay_pixels: bool = False
    on_device: bool = False

    def least(self, images: int) -> int:
        """Return how many of so many images a pass has at least."""
        return max(1, images // (self.share.count * self.passes))


ALL_AT_ONCE = Loading()


class TrainingLoader:
    """Loads the batches of each epoch: images (B, 3, H, W) and the targets of each.

    Loader processes end with this one. A picture that cannot be read is skipped: the next of its
    size that can be takes its place. A line names it; more than ``most_skipped`` of them raise
    here, as if they had been read here.

    Args:
        data: The training split.
        order: The order of each epoch, of frames without labels too.
        workers: Loader processes; 0 loads in this one.
        most_skipped: Pictures that may be skipped in all; 0 raises at the first.

    Attributes:
        data: The training split.
        workers: Loader processes.
        most_skipped: Pictures that may be skipped in all.
        skipped: What is wrong with each picture that was skipped, one line each.
        given: How many pictures the batches had.
    """

    def __init__(
        self, data: TrainingInputs, order: Order, workers: int, most_skipped: int = 0
    ) -> None:
        self.data, self.workers, self.most_skipped = data, workers, most_skipped
        self._order = order
        self.skipped: list[str] = []
        self.given = 0
        self._attempts = _Attempts(data)
        self._batches = DataLoader(
            self._attempts,
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

    def items(self, epoch: int) -> Iterator[Item]:
        """Give the items of an epoch, in their order, those of all processes."""
        self._order.epoch, self._order.done = epoch, 0
        yield from chain.from_iterable(self._order.whole())

    def pictures(self, epoch: int) -> Iterator[Picture]:
        """Give the augmented pictures of an epoch, in their order, before normalisation."""
        yield from map(self.data.picture, self.items(epoch))

    def loaded(self, item: Item) -> tuple[Tensor, Targets]:
        """Load one picture, or that in its place; raises DataError or OSError."""
        found = self._attempts[item]
        if isinstance(found, Exception):
            raise found
        image, targets, skipped = found
        self.note(skipped)
        return image, targets

    def batches(self, epoch: int, done: int = 0) -> Iterator[tuple[Tensor, list[Targets]]]:
        """Load one epoch but for its first ``done`` batches; raises DataError or OSError."""
        self._order.epoch, self._order.done = epoch, done
        for batch in self._batches:
            if isinstance(batch, Exception):
                raise batch
            images, targets, skipped = batch
            self.note(skipped)
            self.given += len(images)
            if isinstance(targets, bytes):
                targets = list(pickle.loads(targets))  # noqa: S301 - this run's own process wrote it
            yield images, targets

    def note(self, problems: Iterable[str]) -> None:
        """Name pictures that were skipped, each once; raise DataError where they are too many."""
        for problem in problems:
            if problem in self.skipped:
                continue
            self.skipped.append(problem)
            if len(self.skipped) > self.most_skipped:
                raise DataError(_too_many(problem, self.most_skipped))
            tqdm.write(f"skipped: {problem}", file=sys.stderr)


def _too_many(problem: str, most: int) -> str:
    if not most:
        return problem
    return (
        f"{problem}; {counted(most, 'picture')} before it could not be read either, which is "
        "data.most_skipped: run edgedetr data check --decode"
    )


def training_loader(
    data: DataConfig,
    schedule: ScheduleConfig,
    split: Dataset,
    spec: ModelSpec,
    teacher: ModelSpec | None = None,
    loading: Loading = ALL_AT_ONCE,
) -> TrainingLoader:
    """Make the loader of a run, and report how many of its frames have no labels.

    Args:
        data: How it samples and augments.
        schedule: Its epochs, batch size and seed.
        split: To train on; frames without labels come from the folder that ``data`` names.
        spec: The student's.
        teacher: The teacher's, in training with one.
        loading: What this process takes of it, and how.

    Raises:
        UsageError: If a batch has too few images for the processes and their passes, or pictures
            cannot be augmented on the device.
        DataError: If an image must be read for its size, and cannot be, or the folder holds none.
    """
    plain_from, share = None, loading.share
    if data.no_aug_epochs:
        plain_from = schedule.epochs - data.no_aug_epochs
    frames, stay = with_unlabelled(split, data), loading.stay_pixels or loading.on_device
    inputs = NetworkInputs(frames, spec, data.rectangular, teacher, stay_pixels=stay)
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
        shards=shards_of(split.paths),
    )
    if inputs.unlabelled:
        order = MixedOrder(order, len(split), inputs.unlabelled, count, schedule.seed, share)
        tqdm.write(
            f"{inputs.unlabelled} frames of {data.unlabelled} have no labels: {count} of each "
            f"batch of {schedule.batch_size}"
        )
    require_images(order.least_images, share, loading.passes)
    if loading.on_device:
        _check_device(inputs, loading)
    images = TrainingInputs(
        *(inputs, data.augment, schedule.seed, plain_from, loading.views),
        on_device=loading.on_device,
    )
    return TrainingLoader(images, order, data.workers, data.most_skipped)


def _check_device(inputs: NetworkInputs, loading: Loading) -> None:
    """Refuse to augment on the device what is needed, augmented, before it comes there."""
    if inputs.views is not None:
        raise UsageError(
            "data.augment_on_device: the teacher's input differs from the student's and is made "
            "from augmented pixels on the host; unset it, or give both the same size and resize"
        )
    if loading.views:
        raise UsageError(
            "data.augment_on_device: a teacher cache is read by the hash of augmented pixels on "
            "the host; unset it, or train without teacher_cache.path"
        )


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


class _Attempts(TorchDataset["Loaded | Exception"]):
    """Gives a known error as a value: torch would wrap what a loader process raises in a trace.

    In the place of a picture that cannot be read it gives the next of its kind that can be.
    """

    def __init__(self, data: TrainingInputs) -> None:
        self._data = data

    @override
    def __getitem__(self, item: Item) -> Loaded | Exception:
        problems: list[str] = []
        for image in islice(self._data.stand_ins(item.image), 1 + MOST_STAND_INS):
            found = self._attempt(item._replace(image=image))
            if not isinstance(found, DataError):
                return found if isinstance(found, Exception) else (*found, tuple(problems))
            problems.append(str(found))
        return DataError(
            f"{problems[0]}; nor can {counted(len(problems) - 1, 'picture')} in its place be read"
        )

    def _attempt(self, item: Item) -> tuple[Tensor, Targets] | Exception:
        try:
            return self._data[item]
        except (EdgeDetrError, OSError) as error:
            return error


def _collated(
    items: Sequence[Loaded | Exception],
) -> tuple[Tensor, list[Targets] | bytes, list[str]] | Exception:
    """Stack images and list the targets and what was skipped; an error stands for the whole batch.

    A loader process hands its targets over as bytes.
    """
    for item in items:
        if isinstance(item, Exception):
            return item
    images, targets, skipped = zip(*items, strict=True)
    batch, problems = torch.stack(images), [line for lines in skipped for line in lines]
    if get_worker_info() is None:
        return batch, list(targets), problems
    try:
        batch.share_memory_()  # type: ignore[no-untyped-call]  # a lack of it is reported here
    except RuntimeError as error:
        return EdgeDetrError(
            f"a loader process cannot hand over a batch of {batch.nbytes / 2**20:.0f} MiB "
            f"({str(error).splitlines()[0]}); give /dev/shm more room (docker run --shm-size=2g) "
            "or set data.workers = 0"
        )
    return batch, pickle.dumps(targets), problems  # as tensors, each would keep a file open


def _start_worker(parent: int, _: int) -> None:
    end_with_parent(parent)
    leave_sigterm_to(parent)
