"""Options of an engine; each builder refuses those that it does not support."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

WORKSPACE_MIB = 1024
"""Default of the scratch memory of a layer."""


@dataclass(frozen=True)
class EngineOptions:
    """How to build an engine. Its precision is no option: it lies in the ONNX graph.

    Attributes:
        compute_capabilities: Of the GPUs to build for, for example ``8.6``; empty for the
            builder's own choice.
        workspace_mib: Limit of the scratch memory of a layer, in MiB.
        batch: Least, usual and greatest batch of a model whose batch is free.
        timing_cache: File of the times that kernels took, read and extended.
        version_compatible: Let later versions of the library run the engine.
        hardware_compatible: Let every GPU of compute capability 8.0 and later run it.
        dla: Place on the first DLA of a Jetson what it can run.
        tf32: Let FP32 products round their operands to 10 bits of mantissa, which is faster.
    """

    compute_capabilities: tuple[str, ...] = ()
    workspace_mib: int = WORKSPACE_MIB
    batch: tuple[int, int, int] | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    dla: bool = False
    tf32: bool = False

    def __post_init__(self) -> None:
        for capability in self.compute_capabilities:
            if not re.fullmatch(r"\d+\.\d", capability):
                raise UsageError(
                    f"--compute-capability {capability}: wanted a number such as 8.6 (see "
                    "https://developer.nvidia.com/cuda-gpus)"
                )
        if self.batch and not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            found = ",".join(map(str, self.batch))
            raise UsageError(f"--batch {found}: wanted MIN,OPT,MAX with 1 <= MIN <= OPT <= MAX")
        if self.dla and self.batch:
            raise UsageError(
                "a DLA takes no dynamic batch; leave out --dla, or export with a static one: "
                "edgedetr export onnx --batch N"
            )


def batch_from_text(text: str) -> tuple[int, int, int]:
    """Read ``MIN,OPT,MAX``.

    Raises:
        UsageError: If it is something else.
    """
    try:
        least, usual, most = map(int, text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--batch {text}: wanted three numbers MIN,OPT,MAX such as 1,4,8"
        ) from error
    return least, usual, most
