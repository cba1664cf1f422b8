"""Settings of a training step: its precision, its passes, and what makes it faster or smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgedetr.distill.config_ranges import MOST_STEPS, check_range

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_PASSES = 4096


@dataclass(frozen=True)
class StepConfig:
    """How a step computes.

    Attributes:
        precision: Of the networks; losses, matching, weights and their averages stay FP32.
            ``bf16`` and ``fp16`` are autocast, ``fp16`` with a scale of the loss that falls when a
            gradient overflows.
        accumulate: Passes in which each process takes its images of a batch, one after another, so
            that a large batch needs the memory of a small one.
        checkpointing: Whether the backbone's stages are computed again in the backward pass instead
            of kept in memory.
        channels_last: Whether the weights of convolutions lie with their channels last.
        compile: Whether the backbones of student and teacher are compiled by ``torch.compile``.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulate: int = 1
    checkpointing: bool = False
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        check_range("accumulate", self.accumulate, 1, MOST_PASSES)


def check_passes(config: StepConfig, batch_size: int, held: Sequence[str]) -> None:
    """Refuse passes one after another where something needs the gradient of a whole batch.

    Args:
        config: How a step computes.
        batch_size: Images of a batch.
        held: Methods that are held to a share of the gradient.

    Raises:
        ValueError: If there is one, or a pass would have no image.
    """
    if config.accumulate == 1:
        return
    if held:
        raise ValueError(
            f"method.{held[0]}.share is measured on the gradient of a whole batch: set it to 0 "
            "or train.accumulate to 1"
        )
    check_range("batch_size with train.accumulate", batch_size, config.accumulate, MOST_STEPS)
