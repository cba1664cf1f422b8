"""Checks before the first step: a run that cannot work is refused, a poor one gets a warning."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from tqdm import tqdm

from edgedetr.distill.detectors import trains
from edgedetr.distill.model import family_with
from edgedetr.distill.training.teacher_views import teacher_views
from edgedetr.distill.types import Memory
from edgedetr.distill.weights.checkpoint import missing_checkpoint
from edgedetr.distill.weights.imported_cache import local_checkpoint
from edgedetr.distill.weights.source_backbone import refuse_backbone
from edgedetr.runtime.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from edgedetr.distill.config import StudentConfig
    from edgedetr.distill.data import Dataset, Truth
    from edgedetr.distill.model import Model
    from edgedetr.distill.optimizer_config import OptimizerConfig


def check_names(student: StudentConfig, teacher: str) -> None:
    """Refuse a detector or a teacher that does not exist, before a large data set is read.

    Raises:
        UnknownNameError: If there is no such family or preset.
        UsageError: If the family cannot be trained.
        ArtifactError: If the teacher's checkpoint is missing, or it cannot be imported, or one of
            both is a backbone alone.
    """
    module = family_with(student.preset, student.family)
    if not trains(module):
        raise UsageError(
            f"{student.family} detects and teaches, and is not trained here; choose another family "
            "for the student"
        )
    refuse_backbone(student.init)
    if teacher and not local_checkpoint(teacher).is_file():
        raise missing_checkpoint(Path(teacher))


def check_inputs(
    student: Model,
    teacher: Model | None,
    splits: Sequence[Dataset],
    batch_size: int,
    sizes: Sequence[tuple[int, int]] = (),
) -> None:
    """Refuse a run whose first step would fail, and warn of one that cannot find every object.

    Args:
        student: Encodes one image of its own input size.
        teacher: Encodes one of its own; None where no method needs it.
        splits: The training split and the validation split.
        batch_size: Images per step.
        sizes: Further sizes (H, W) at which it trains; a teacher with an input of its own has none.

    Raises:
        DataError: If no training frame holds an object.
        UsageError: If an encoder has fewer cells than its model has queries, or a batch norm would
            see a single value.
    """
    check_objects(splits[0], splits[1])
    sees_them = teacher is not None and teacher_views(student.spec, teacher.spec) is None
    for hw in sizes:
        for model in (student, teacher if sees_them else None):
            if model is not None:
                query_count(model, hw)
    queries = check_query_counts(student, teacher)
    require_norms(student, student.spec.input_hw, min(batch_size, len(splits[0])))
    warn_of_crowds([truth for split in splits for truth in split.truths], queries)


def check_objects(train: Dataset, validation: Dataset) -> None:
    """Refuse to train on nothing; warn of classes without objects and of frames in both splits.

    Raises:
        DataError: If no training frame holds an object.
    """
    counts = Counter(k for truth in train.truths for k in truth.labels.tolist())
    missing = [name for k, name in enumerate(train.class_names) if not counts[k]]
    if not counts:
        raise DataError(
            f"the training split of {len(train)} frames holds no object of {', '.join(missing)}; "
            "set data.classes or data.train_split"
        )
    if missing:
        _warn(f"the training split holds no object of {', '.join(missing)}: none will be found")
    known = {path.resolve() for path in train.paths}
    both = sum(path.resolve() in known for path in validation.paths)
    if both:
        _warn(
            f"{both} of {len(validation)} validation frames are training frames, too: the AP on "
            "them says nothing about others"
        )


def check_query_counts(student: Model, teacher: Model | None) -> int | None:
    """Encode an image of its own input size by each; return how many queries the student has.

    Raises:
        UsageError: If an encoder has fewer cells than its model has queries.
    """
    if teacher is not None:
        query_count(teacher, teacher.spec.input_hw)
    return query_count(student, student.spec.input_hw)


def query_count(model: Model, input_hw: tuple[int, int]) -> int | None:
    """Encode one black image of a size; return how many queries the model chooses itself.

    Returns:
        None for a detector without queries.

    Raises:
        UsageError: If its encoder has fewer cells than it has queries.
    """
    try:
        memory = _encoded(model, input_hw)
    except UsageError as error:
        raise UsageError(f"{_called(model, input_hw)}: {error}") from error
    return int(memory.own.boxes.shape[1]) if isinstance(memory, Memory) else None


def require_norms(model: Model, input_hw: tuple[int, int], images: int) -> None:
    """Refuse to train with a single image where a batch norm sees a single cell of it.

    Raises:
        UsageError: If one does: the variance of one value is nothing to divide by.
    """
    least = [images * prod(input_hw)]
    norms = [m for m in model.network.modules() if isinstance(m, nn.BatchNorm2d)]

    def note(_: nn.Module, args: tuple[Tensor]) -> None:
        least.append(images * prod(args[0].shape[2:]))

    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        _encoded(model, input_hw)
    finally:
        for handle in handles:
            handle.remove()
    if min(least) < 2:
        raise UsageError(
            f"{_called(model, input_hw)}: a batch norm sees 1 value per channel in a batch of 1 "
            "image; choose a larger input or batch_size"
        )


@torch.no_grad()
def _encoded(model: Model, input_hw: tuple[int, int]) -> object:
    """Run the encoder on one black image; nothing of the model changes."""
    network = model.network
    was_training = network.training
    network.eval()
    try:
        return model.encode(torch.zeros(1, 3, *input_hw, device=next(network.parameters()).device))
    finally:
        network.train(was_training)


def _called(model: Model, input_hw: tuple[int, int]) -> str:
    return f"{model.family}/{model.preset} at {input_hw[0]} x {input_hw[1]} (H x W)"


def warn_of_crowds(truths: Iterable[Truth], queries: int | None) -> None:
    """Warn once that frames hold more objects than the student has queries; None has no limit."""
    if queries is None:
        return
    counts = [len(truth.labels) for truth in truths]
    crowded = [count for count in counts if count > queries]
    if crowded:
        _warn(
            f"{len(crowded)} of {len(counts)} frames hold more objects (up to {max(crowded)}) than "
            f"the student has queries ({queries}): it can never find them all; choose a preset "
            "with more queries"
        )


def capped_warmup(steps: int, config: OptimizerConfig) -> OptimizerConfig:
    """Return the settings with a warm-up that ends before the run does; a shorter one is warned of.

    Args:
        steps: Of the whole run.
        config: One whose warm-up would not end gets one of a tenth of the run.
    """
    if config.warmup_steps < steps:
        return config
    capped = steps // 10
    _warn(
        f"the run ends after {steps} steps, before its warm-up of {config.warmup_steps} does: "
        f"optimizer.warmup_steps is taken as {capped}"
    )
    return replace(config, warmup_steps=capped)


def _warn(line: str) -> None:
    tqdm.write(f"warning: {line}", file=sys.stderr)
