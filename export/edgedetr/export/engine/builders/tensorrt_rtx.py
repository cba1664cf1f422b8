"""TensorRT for RTX: compiles for named GPUs, also on machines that have none.

Its engines hold kernels as source and finish them on the device when they are first run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgedetr.export.engine.options import EngineOptions

INSTALL = "anywhere: pip install 'edgedetr[tensorrt-rtx]'"
OLDEST = (1, 2)

_AMPERE = 8


def check(options: EngineOptions) -> None:
    """Refuse what the library accepts and ignores, or fails at (1.7)."""
    if options.timing_cache:
        raise UsageError(
            "tensorrt_rtx times no kernels when it builds, so it has no timing cache; leave out "
            "--timing-cache"
        )
    if options.version_compatible:
        raise UsageError(
            "an engine of tensorrt_rtx runs with the version that built it and no other; leave "
            "out --version-compatible and build again for each version"
        )
    if options.dla:
        raise UsageError(
            "tensorrt_rtx builds for GPUs alone; leave out --dla, or take --backend tensorrt on a "
            "Jetson that has a DLA"
        )
    if options.hardware_compatible:
        raise UsageError(
            "tensorrt_rtx has no hardware-compatible mode; leave out --hardware-compatible and "
            "--compute-capability, and the engine runs on every GPU from 8.0 up"
        )


def targets(trt: Any, options: EngineOptions) -> tuple[str, ...]:  # noqa: ANN401
    """Return the requested GPUs, or every one that the library knows from 8.0 up."""
    known = _capabilities(trt)
    unknown = [c for c in options.compute_capabilities if c not in known]
    if unknown:
        raise UsageError(
            f"tensorrt_rtx {trt.__version__} does not build for compute capability "
            f"{', '.join(unknown)}; choose from {', '.join(known)}"
        )
    wanted = dict.fromkeys(options.compute_capabilities) or _by_default(known)
    return tuple(f"sm_{c.replace('.', '')}" for c in wanted)


def configure(trt: Any, config: Any, options: EngineOptions) -> None:  # noqa: ANN401
    """Set the GPUs to compile for."""
    known = _capabilities(trt)
    requested = tuple(dict.fromkeys(options.compute_capabilities))
    config.num_compute_capabilities = len(requested)
    for index, capability in enumerate(requested):
        config.set_compute_capability(known[capability], index)


def _by_default(known: Iterable[str]) -> list[str]:
    """Return what an engine is compiled for where no GPU is named: Ampere and later."""
    return [capability for capability in known if int(capability.partition(".")[0]) >= _AMPERE]


def _capabilities(trt: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return what the library builds for: ``8.6`` to its member of ComputeCapability."""
    members = trt.ComputeCapability.__members__.items()
    return {f"{name[2:-1]}.{name[-1]}": m for name, m in members if name.startswith("SM")}
