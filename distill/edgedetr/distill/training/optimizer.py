"""AdamW over what trains: its parameter groups, frozen stages, and learning rate at each step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from edgedetr.distill.networks.backbones import backbone_of, stage_of
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgedetr.distill.optimizer_config import OptimizerConfig
    from edgedetr.distill.training.distillation_model import Trainee


def optimizer_of(trainee: Trainee, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Make the optimizer of a run."""
    return torch.optim.AdamW(parameter_groups(trainee, config), fused=True)


def parameter_groups(trainee: Trainee, config: OptimizerConfig) -> list[dict[str, object]]:
    """Split the parameters by learning rate and weight decay.

    Norms and biases (tensors of one dimension) do not decay. Each group has a ``peak`` learning
    rate beside its ``lr``.
    """
    backbone = backbone_of(trainee.network)
    named = list(backbone.named_parameters())
    stages = stage_of([name for name, _ in named])
    factors = {
        id(p): config.backbone_factor * config.layer_decay ** (max(stages) - stage)
        for (_, p), stage in zip(named, stages, strict=True)
    }
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for parameter in trainee.parameters():
        if parameter.requires_grad:
            factor = factors.get(id(parameter), 1.0)
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((config.learning_rate * factor, decay), []).append(parameter)
    return [
        {"params": params, "lr": peak, "peak": peak, "weight_decay": decay}
        for (peak, decay), params in groups.items()
    ]


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of each group to a share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def freeze_stages(network: nn.Module, count: int) -> None:
    """Let the backbone's stem and its first ``count`` stages stay as they are; -1 lets all train.

    Raises:
        UsageError: If the backbone has fewer stages.
    """
    named = list(backbone_of(network).named_parameters())
    stages = stage_of([name for name, _ in named])
    if count > max(stages):
        raise UsageError(
            f"optimizer.frozen_stages is {count}, but the backbone has {max(stages)} stages"
        )
    for (_, parameter), stage in zip(named, stages, strict=True):
        if stage <= count:
            parameter.requires_grad = False


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Return the share of the peak learning rate at a step: linear up, then as the schedule says.

    Args:
        step: Counted from 0.
        steps: Of the whole run.
        config: Its warm-up and its schedule.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "step":
        passed = sum(step >= share * steps for share in config.milestones)
        return config.gamma**passed
    start = config.warmup_steps
    if config.schedule == "flat_cosine":
        start = max(start, round(config.flat_share * steps))
        if step < start:
            return 1.0
    progress = (step - start) / max(1, steps - start)
    falling = 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_factor + (1 - config.final_factor) * falling
