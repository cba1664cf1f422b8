"""AdamW over what trains, its parameter groups, and its learning rate at each step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from edgedetr.distill.networks.backbones import backbone_of

if TYPE_CHECKING:
    from torch import Tensor

    from edgedetr.distill.config import OptimizerConfig
    from edgedetr.distill.training.distillation_model import Trainee


def optimizer_of(trainee: Trainee, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Make the optimizer of a run."""
    return torch.optim.AdamW(parameter_groups(trainee, config), fused=True)


def parameter_groups(trainee: Trainee, config: OptimizerConfig) -> list[dict[str, object]]:
    """Split the parameters by learning rate and weight decay.

    Norms and biases (tensors of one dimension) do not decay. Each group has a ``peak`` learning
    rate beside its ``lr``.
    """
    backbone = {id(p) for p in backbone_of(trainee.network).parameters()}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for parameter in trainee.parameters():
        if parameter.requires_grad:
            factor = config.backbone_factor if id(parameter) in backbone else 1.0
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


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Return the share of the peak learning rate at a step: linear up, cosine down to 0."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))
