"""Settings of a training step: its precision, its passes, and what makes it faster or smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgedetr.distill.config_ranges import check_range

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
