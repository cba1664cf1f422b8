"""Which GPUs multiply FP8: from compute capability 8.9 up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgedetr.graph.fp8 import OLDEST_FP8
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from edgedetr.export.engine.precision import Precision


def check_targets(precision: Precision, targets: Iterable[str], path: Path) -> None:
    """Refuse a graph with FP8 in it for GPUs that do not multiply it.

    Args:
        precision: The types of the network.
        targets: What the engine shall run on, see `edgedetr.runtime.manifest.Manifest`.
        path: The ONNX file, for messages.

    Raises:
        UsageError: With the GPUs, and what to do instead.
    """
    if "FP8" not in precision.macs:
        return
    oldest = int(OLDEST_FP8.replace(".", ""))
    without = [t for t in targets if int("".join(re.findall(r"\d+", t))) < oldest]
    if without:
        raise UsageError(
            f"{path} is FP8, which {', '.join(without)} cannot multiply (Orin is sm_87); choose "
            f"GPUs from {OLDEST_FP8} up with --compute-capability, or build an INT8 model"
        )
