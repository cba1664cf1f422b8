"""TensorRT 10.3 to 11: builds on the device that the engine runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedetr.export.engine.dla import use_dla
from edgedetr.runtime.cuda.device import TEGRA, find_device
from edgedetr.runtime.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from edgedetr.export.engine.options import EngineOptions

INSTALL = "on the target device: pip install 'edgedetr[tensorrt]', or JetPack's python3-libnvinfer"
OLDEST = (10, 3)

EVERY_LATER_GPU = "sm_80+"


def check(options: EngineOptions) -> None:
    """Accept every option; see `targets` for the devices."""
    del options


def targets(trt: Any, options: EngineOptions) -> tuple[str, ...]:  # noqa: ANN401, ARG001
    """Return the GPU of this machine, or with ``hardware_compatible`` all but Tegra's from 8.0."""
    device = find_device()
    if device is None:
        raise ArtifactError(
            "tensorrt builds on a GPU and this machine has none; build on the target device, or "
            "with --backend tensorrt_rtx, which compiles without one"
        )
    others = set(options.compute_capabilities) - {device.compute_capability}
    if others:
        raise UsageError(
            f"tensorrt builds for the GPU it runs on, here {device.name} with compute capability "
            f"{device.compute_capability}; found --compute-capability {', '.join(sorted(others))}: "
            "build on such a device, or give --hardware-compatible"
        )
    if options.hardware_compatible and device.target in TEGRA:
        raise UsageError(
            f"tensorrt builds no hardware-compatible engine on {device.name}: Tegra has no such "
            "mode; leave out --hardware-compatible and build on each device"
        )
    return (EVERY_LATER_GPU,) if options.hardware_compatible else (device.target,)


def configure(trt: Any, config: Any, options: EngineOptions) -> None:  # noqa: ANN401
    """Set the compatible modes and the DLA."""
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.dla:
        use_dla(trt, config)
