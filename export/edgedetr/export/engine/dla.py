"""Deep Learning Accelerators (DLA) of a Jetson: what an engine wants of one, and where none can be.

Which devices and releases have one differs: Orin has, Thor has not, and of TensorRT 11 only few
packages do. So the builder is asked, which counts those that it can build for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.export.engine.precision import Precision


def check_dla(builder: Any, library: str, precision: Precision, path: Path) -> None:  # noqa: ANN401
    """Require that this machine has a DLA, and that it could run something of a network.

    Args:
        builder: The library's builder.
        library: Its name and version.
        precision: The types of the network.
        path: The ONNX file, for messages.

    Raises:
        UsageError: With the reason, and what to do instead.
    """
    if builder.num_DLA_cores < 1:
        raise UsageError(
            f"{library} finds no DLA on this machine (Orin has one, Thor has none, and not every "
            "release of TensorRT supports it); leave out --dla"
        )
    if precision.int8:
        kind = "INT8" if "INT8" in precision.macs else "FP8"
        raise UsageError(
            f"{path} is {kind} by quantizers in its graph, which no DLA takes; build the FP16 "
            "model for it: edgedetr export fp16"
        )
    if "FP16" not in precision.macs:
        raise UsageError(
            f"{path} multiplies nothing in FP16, and a DLA computes in FP16 alone; build the FP16 "
            "model for it: edgedetr export fp16"
        )


def use_dla(trt: Any, config: Any) -> None:  # noqa: ANN401
    """Place on the first DLA what it can run, and the rest on the GPU."""
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = 0
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
