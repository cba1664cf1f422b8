"""Settings of the optimizer and of the loop around it: learning rates, averages, epochs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from edgedetr.distill.config_ranges import MOST_STEPS, check_range

MOST_STAGES = 1000
"""Far more than any backbone has."""

LATER = (
    "base_batch_size",
    "schedule",
    "milestones",
    "gamma",
    "flat_share",
    "final_factor",
    "layer_decay",
    "frozen_stages",
    "ema_warmup_steps",
)
"""Settings that a record leaves out at their default: older runs were without them."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and a decay of the learning rate.

    Attributes:
        learning_rate: Peak rate of encoder, decoder and adapters.
        base_batch_size: The batch size that ``learning_rate`` is of: another one's rate is larger
            or smaller in proportion. 0 takes the rate as it is.
        schedule: How the rate falls from its peak: ``cosine``; ``step`` multiplies it by ``gamma``
            at each of ``milestones``; ``flat_cosine`` holds the peak first.
        milestones: Shares of the run's steps at which ``step`` lowers the rate.
        gamma: What ``step`` multiplies the rate by.
        flat_share: Share of the run's steps before ``flat_cosine`` begins to fall.
        final_factor: Share of the peak at which both cosines end.
        backbone_factor: Rate of the backbone as a share of it; 1 for one that is not pre-trained.
        layer_decay: Share of the rate of the stage behind it that each stage of the backbone has,
            from the last one, which has ``backbone_factor``, to the stem; 1 for none.
        frozen_stages: Stages of the backbone that do not train, after the stem: 0 freezes the stem
            alone, -1 nothing.
        weight_decay: Of all but norms and biases.
        warmup_steps: Steps until the peak.
        clip_norm: Largest norm of the gradient.
        ema_decay: Of the moving average of weights that is evaluated and saved.
        ema_warmup_steps: Steps over which that decay rises, as ``1 - exp(-n / ema_warmup_steps)``;
            0 lets it rise as ``(1 + n) / (10 + n)``.
    """

    learning_rate: float = 8e-4
    base_batch_size: int = 0
    schedule: Literal["cosine", "step", "flat_cosine"] = "cosine"
    milestones: tuple[float, ...] = (0.7, 0.9)
    gamma: float = 0.1
    flat_share: float = 0.5
    final_factor: float = 0.0
    backbone_factor: float = 1.0
    layer_decay: float = 1.0
    frozen_stages: int = -1
    weight_decay: float = 1e-4
    warmup_steps: int = 60
    clip_norm: float = 0.1
    ema_decay: float = 0.998
    ema_warmup_steps: int = 0

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and self.clip_norm > 0 and 0 < self.ema_decay < 1):
            raise ValueError(
                "learning_rate and clip_norm must be positive and ema_decay lie in (0, 1), got "
                f"{self.learning_rate}, {self.clip_norm} and {self.ema_decay}"
            )
        if self.backbone_factor < 0 or self.weight_decay < 0:
            raise ValueError(
                "backbone_factor and weight_decay must be at least 0, got "
                f"{self.backbone_factor} and {self.weight_decay}"
            )
        check_range("warmup_steps", self.warmup_steps, 0, MOST_STEPS)
        check_range("base_batch_size", self.base_batch_size, 0, MOST_STEPS)
        check_range("ema_warmup_steps", self.ema_warmup_steps, 0, MOST_STEPS)
        check_range("frozen_stages", self.frozen_stages, -1, MOST_STAGES)
        self._check_shares()

    def _check_shares(self) -> None:
        for name in ("gamma", "layer_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)}")
        for name in ("flat_share", "final_factor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        ordered = sorted(set(self.milestones)) == list(self.milestones)
        if not ordered or not all(0 < share < 1 for share in self.milestones):
            raise ValueError(
                "milestones must be rising shares of the run in (0, 1), got "
                f"{list(self.milestones)}"
            )

    def for_batches_of(self, batch_size: int) -> OptimizerConfig:
        """Return the settings with the learning rate of a batch size (linear scaling)."""
        if not self.base_batch_size:
            return self
        rate = self.learning_rate * batch_size / self.base_batch_size
        return replace(self, learning_rate=rate, base_batch_size=0)


@dataclass(frozen=True)
class ScheduleConfig:
    """How long a run trains and on how much at once, as `DistillConfig` says.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Images per step, over all devices.
        eval_every: Epochs between evaluations; the last epoch is always evaluated.
        seed: Of weights, order, augmentation and noise.
        best_metric: What decides which evaluated student is kept; empty keeps the last.
        patience: Evaluations in a row without a better one that end the run; 0 for no end.
        save_every_steps: Steps between states within an epoch; 0 for none.
        keep_states: How many of the newest states are kept.
    """

    epochs: int
    batch_size: int
    eval_every: int
    seed: int
    best_metric: str = ""
    patience: int = 0
    save_every_steps: int = 0
    keep_states: int = 1

    def is_evaluated(self, epoch: int) -> bool:
        """Tell whether the student is evaluated after an epoch, counted from 0."""
        return epoch + 1 == self.epochs or (epoch + 1) % self.eval_every == 0
