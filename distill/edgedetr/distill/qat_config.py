"""Settings of training for INT8."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgedetr.distill.config_ranges import MOST_STEPS, check_range


@dataclass(frozen=True)
class QatConfig:
    """Quantization-aware training: the student computes as its INT8 export will.

    Attributes:
        enabled: Whether it does; it fine-tunes the student that ``student.init`` names.
        frames: Training frames, evenly spread, from which the ranges of activations are taken.
        include: What ``edgedetr export qdq --include`` takes: a regular expression of nodes to
            quantize beside the default ones.
        exclude: What its ``--exclude`` takes: nodes to keep float.
        learn_steps: Whether training moves the steps, too (LSQ), and not the weights alone.
    """

    enabled: bool = False
    frames: int = 64
    include: str = ""
    exclude: str = ""
    learn_steps: bool = False

    def __post_init__(self) -> None:
        check_range("qat.frames", self.frames, 1, MOST_STEPS)
        try:
            re.compile(self.include)
            re.compile(self.exclude)
        except re.error as error:
            raise ValueError(
                "qat.include and qat.exclude must be regular expressions, found "
                f"{error.pattern!r}: {error}"
            ) from error
