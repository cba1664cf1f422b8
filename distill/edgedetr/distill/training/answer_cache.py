"""The teacher's answers that a run asks for: which they are, what they cost, and how they are made.

Every augmented picture that the run will train on is known beforehand: an image has a fixed number
of views, or it is only mirrored. What a method asks of the teacher beside its features (other
queries, regions of the student's) its decoder or second stage computes from these in any case.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm
from typing_extensions import override

from edgedetr.distill.augmentations import augmentations_of
from edgedetr.distill.training.answer_store import AnswerStore
from edgedetr.distill.training.loader import TrainingLoader, one_line_of_workers
from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from edgedetr.distill.config import DataConfig
    from edgedetr.distill.model import Model
    from edgedetr.distill.optimizer_config import ScheduleConfig
    from edgedetr.distill.teacher_config import TeacherCacheConfig
    from edgedetr.distill.training.distillation_model import Trainee
    from edgedetr.distill.training.processes import Processes
    from edgedetr.distill.training.sampling import Item
    from edgedetr.distill.training.teacher_cache import TeacherMemory
    from edgedetr.runtime.spec import ModelSpec

FORMAT = "1"
"""Of the folder and of what its answers mean."""


def open_cache(
    config: TeacherCacheConfig,
    data: DataConfig,
    student: ModelSpec,
    teacher: Model | None,
    sources: Mapping[str, str],
) -> AnswerStore | None:
    """Open a run's cache, or begin it; None where it has none.

    Args:
        config: Where it lies, and how exact it is.
        data: How pictures are made.
        student: The input that they are made for.
        teacher: Whose answers they are; None where none is asked.
        sources: Of the run, see `RunIdentity`.

    Raises:
        ArtifactError: If it is of another teacher, other images or another augmentation, or it is
            damaged.
    """
    if not config.path or teacher is None:
        return None
    sizes = data.rectangular or (student.input_hw,)
    classes = teacher.class_map.groups if teacher.class_map else "its own"
    seen = teacher.spec
    header = {
        "format": FORMAT,
        "teacher": sources["teacher"],
        "teacher's input": f"{_size(seen.input_hw)} {seen.resize}, pad value {seen.pad_value}, "
        f"mean {seen.mean}, std {seen.std}",
        "choice of classes": f"{classes}",
        "size": f"{', '.join(map(_size, sizes))} {student.resize}, pad value {student.pad_value}",
        "augmentation": "+".join(augmentations_of(data.augment)),
        "precision": config.precision,
        "set of images": sources["data.train_split: pixels of images"],
        "set of frames without labels": sources.get("data.unlabelled: images", "none"),
    }
    return AnswerStore(config.path, header, config.precision)


@dataclass(frozen=True, eq=False)
class CachePlan:
    """What a run asks for.

    Attributes:
        asked: How often it asks for an answer.
        needed: How many answers that are.
        missing: Items that give the pictures whose answers are missing, those of one size together.
        known_bytes: What the cache takes already.
        missing_bytes: What the missing answers will take.
    """

    asked: int
    needed: int
    missing: tuple[Item, ...]
    known_bytes: int
    missing_bytes: int

    @override
    def __str__(self) -> str:
        known = self.needed - len(self.missing)
        rate = max(0, 1 - len(self.missing) / max(1, self.asked))
        return (
            f"{known} of {self.needed} answers are there ({_gb(self.known_bytes)}), the others "
            f"take {_gb(self.missing_bytes)}; the run asks {self.asked} times: it would read "
            f"{rate:.1%} of that with the cache as it is, 100.0% once it is filled"
        )


def read_answers(
    store: AnswerStore | None,
    trainee: Trainee,
    loader: TrainingLoader,
    epochs: int,
    processes: Processes,
) -> None:
    """Let a run read its teacher's answers from its cache, if it has one.

    What the run will ask for is said in one line.

    Args:
        store: The cache.
        trainee: Asks the teacher.
        loader: Of the run.
        epochs: How many it has.
        processes: Of the run.

    Raises:
        DataError: If no image can be read.
    """
    memory = trainee.teacher_memory
    if store is None or memory is None:
        return
    memory.store = loader.data.answers = store
    asking = memory
    tqdm.write(processes.from_main(lambda: f"{store.folder}: {plan_of(loader, epochs, asking)}"))


def report_answers(
    memory: TeacherMemory | None, loader: TrainingLoader, processes: Processes
) -> None:
    """Say in one line what a run found in its cache, if it has one; the others lie there now."""
    if memory is None or memory.store is None:
        return
    asked, made = map(sum, zip(*processes.every((loader.given, memory.made)), strict=True))
    read = f"{asked - made} of {asked} answers were read"
    tqdm.write(f"{memory.store.folder}: {read}, the others were added")


def plan_of(loader: TrainingLoader, epochs: int, memory: TeacherMemory) -> CachePlan:
    """List what a run asks for, from the order of all its epochs.

    Args:
        loader: Of the run.
        epochs: How many it has.
        memory: Of its teacher, with a store.
    """
    store, asked = _store_of(memory), 0
    needed: dict[str, Item] = {}
    for epoch in range(epochs):
        for item in loader.items(epoch):
            asked += 1
            for name, one in loader.data.stored_items(item).items():
                needed.setdefault(name, one)
    missing = [item for name, item in needed.items() if not store.holds("features", name)]
    by_size = _by_size(loader, missing)
    total = sum(len(v) * memory.answer_bytes(*loader.loaded(v[0])) for v in by_size.values())
    in_order = tuple(item for some in by_size.values() for item in some)
    return CachePlan(asked, len(needed), in_order, store.bytes_on_disk, total)


def fill_cache(
    loader: TrainingLoader,
    memory: TeacherMemory,
    schedule: ScheduleConfig,
    say: Callable[[str], None],
) -> None:
    """Make the answers that are missing, as training would; show the progress.

    Args:
        loader: Of the run, with the store of `memory`.
        memory: Of its teacher.
        schedule: Its epochs and batch size.
        say: Is given what there is to do, and how long it will take, before it begins.

    Raises:
        DataError: If an image cannot be read.
        OSError: If the disk is full.
    """
    store, plan = _store_of(memory), plan_of(loader, schedule.epochs, memory)
    say(f"{store.folder}: {plan}")
    if not plan.missing:
        return
    order = _Batches(loader, plan.missing, schedule.batch_size)
    count, seconds = _measured(loader, next(iter(order)), memory)
    say(
        f"{len(plan.missing)} answers to make: about {seconds * len(plan.missing):.0f} s, as "
        f"{counted(count, 'image')} took {seconds * count:.2f} s"
    )
    batches = TrainingLoader(loader.data, order, loader.workers, loader.most_skipped)
    bar = tqdm(total=len(plan.missing), desc="teacher", unit="image", disable=None)
    with store, one_line_of_workers(), bar:
        for images, targets in batches.batches(0):
            memory.add_to_store(images, targets)
            bar.update(len(images))
    without = f" but for {counted(len(batches.skipped), 'picture')}" if batches.skipped else ""
    say(f"{store.folder}: {plan.needed} answers{without}, {_gb(store.bytes_on_disk)}")


def _measured(
    loader: TrainingLoader, items: Sequence[Item], memory: TeacherMemory
) -> tuple[int, float]:
    """Make a batch twice; return its size, and the second time's seconds an image."""
    loading = asking = 0.0
    for _ in range(2):
        started = perf_counter()
        samples = [loader.loaded(item) for item in items]
        loading, made = perf_counter() - started, perf_counter()
        memory.ask(torch.stack([image for image, _ in samples]), [t for _, t in samples])
        asking = perf_counter() - made
    workers = loader.workers
    seconds = max(loading / workers, asking) if workers else loading + asking
    return len(items), seconds / len(items)


class _Batches:
    """Gives items in batches of one size; an `Order` of a single epoch."""

    has_one_size = False

    def __init__(self, loader: TrainingLoader, items: Sequence[Item], batch_size: int) -> None:
        self.epoch = self.done = 0
        self._batches = [
            some[start : start + batch_size]
            for some in _by_size(loader, items).values()
            for start in range(0, len(some), batch_size)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def least_images(self) -> int:
        return min(map(len, self._batches))

    def __iter__(self) -> Iterator[list[Item]]:
        return iter(self._batches[self.done :])

    def whole(self) -> Iterator[list[Item]]:
        return iter(self)


def _by_size(loader: TrainingLoader, items: Sequence[Item]) -> dict[tuple[float, int], list[Item]]:
    """Sort items by what decides the size of their pictures."""
    found: dict[tuple[float, int], list[Item]] = defaultdict(list)
    for item in items:
        found[item.scale, loader.data.group(item.image)].append(item)
    return found


def _store_of(memory: TeacherMemory) -> AnswerStore:
    assert memory.store is not None  # noqa: S101 - only a memory with a store has a plan
    return memory.store


def _size(hw: Sequence[int]) -> str:
    return f"{hw[0]} x {hw[1]}"


def _gb(size: int) -> str:
    return f"{ceil(size / 1e7) / 100:.2f} GB"
