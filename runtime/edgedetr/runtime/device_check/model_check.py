"""What came of one model on a device."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgedetr.runtime.device_check.measure import EngineCheck
from edgedetr.runtime.printable import counted


@dataclass(frozen=True)
class ModelCheck:
    """What came of one model.

    Attributes:
        name: Its name in the package, or that of the file.
        sha256: Hash of the ONNX file or engine that was checked.
        precision: What the package says that it is; empty for a file.
        build_s: How long its engine was built, in seconds; None where that was there before.
        problems: Why it must not ship for this device, a line each; none if it may.
        beside: Of a package, the SHA-256 of each file that belongs to it, by name.
        check: What was measured; None where the engine did not run.
    """

    name: str
    sha256: str
    precision: str
    build_s: float | None
    problems: tuple[str, ...]
    check: EngineCheck | None
    beside: dict[str, str] = field(default_factory=dict)


def describe(check: ModelCheck) -> str:
    """Return what came of a model in one line."""
    found = check.check
    problems = "; ".join(check.problems)
    if found is None:
        return f"{check.name}: {problems}"
    layers = found.layers.describe() if found.layers else "not listed"
    return (
        f"{check.name}: {problems or 'passed'}; p50 {found.unpaced.p50_ms:.2f}, paced p99 "
        f"{found.paced.p99_ms:.2f}, p99.9 {found.paced.p999_ms:.2f} ms, "
        f"{found.misses} of {counted(found.paced.samples, 'frame')} late; layers: {layers}; "
        f"CUDA graph {_yes(found.cuda_graph)}, frame kernel {_yes(found.frame_kernel)}"
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
