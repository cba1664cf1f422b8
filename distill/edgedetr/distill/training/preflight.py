"""What is known before the first step: a run that cannot work is refused, a poor one is named."""

from __future__ import annotations

import sys
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import nn
from tqdm import tqdm

from edgedetr.distill.types import Memory
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from edgedetr.distill.config import OptimizerConfig
    from edgedetr.distill.data import Truth
    from edgedetr.distill.model import Model


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
            f"{_called(model, input_hw)}: a batch norm sees 1 value a channel in a batch of 1 "
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
    """Say once that frames hold more objects than a student has queries; None has no limit."""
    if queries is None:
        return
    counts = [len(truth.labels) for truth in truths]
    crowded = [count for count in counts if count > queries]
    if crowded:
        _warn(
            f"{len(crowded)} of {len(counts)} frames hold more objects (up to {max(crowded)}) than "
            f"the student has queries ({queries}): it can never find them all; a preset with more "
            "queries could"
        )


def warn_of_warmup(steps: int, config: OptimizerConfig) -> None:
    """Say that a run ends before its warm-up does."""
    if config.warmup_steps >= steps:
        reached = 100 * steps / config.warmup_steps
        _warn(
            f"the warm-up of {config.warmup_steps} steps is not over when the run ends after "
            f"{steps}: the learning rate reaches {reached:.3g} % of its peak and never decays; set "
            f"optimizer.warmup_steps to {max(1, steps // 10)} or so, or train for more epochs"
        )


def _warn(line: str) -> None:
    tqdm.write(f"warning: {line}", file=sys.stderr)
