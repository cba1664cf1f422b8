"""Check every engine of a model on this device, and record it for the gates of a package."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from edgedetr.runtime.device_check import system
from edgedetr.runtime.device_check.engines import Engine, engine_of
from edgedetr.runtime.device_check.measure import EngineCheck, check_engine_runs
from edgedetr.runtime.errors import EdgeDetrError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.machine import machine_facts
from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgedetr.runtime.cuda.device import CudaDevice
    from edgedetr.runtime.device_check.engines import Build, Model
    from edgedetr.runtime.device_check.measure import Pace
    from edgedetr.runtime.types import Frame

FORMAT = "edgedetr-device-check-1"


@dataclass(frozen=True)
class ModelCheck:
    """What came of one model.

    Attributes:
        name: Its name in the package, or that of the file.
        sha256: Hash of the ONNX file or engine that was checked.
        precision: What the package says that it is; empty for a file.
        build_s: How long its engine was built, in seconds; None where that was there before.
        problems: Why it must not ship for this device, a line each; none if it may.
        check: What was measured; None where the engine did not run.
    """

    name: str
    sha256: str
    precision: str
    build_s: float | None
    problems: tuple[str, ...]
    check: EngineCheck | None


def check_model(
    model: Model,
    frames: Sequence[Frame],
    pace: Pace,
    *,
    state: Path,
    build: Build | None,
    on_frame: Callable[[], object] = lambda: None,
) -> ModelCheck:
    """Check the engine of one model; what fails becomes a problem of the record.

    Args:
        model: The model; an ONNX file is built first.
        frames: Real frames.
        pace: How much to time.
        state: Folder that keeps what is built.
        build: What builds, see `engine_of`.
        on_frame: Called after every timed frame.
    """
    built: Engine | None = None
    check: EngineCheck | None = None
    try:
        built = engine_of(model, state, build)
        check = check_engine_runs(built, frames, pace, on_frame)
        problems = _problems(check, model.precision)
    except EdgeDetrError as error:
        problems = (str(error),)
    build_s = built.build_s if built else None
    return ModelCheck(
        model.name, sha256(model.path), model.precision, build_s, tuple(problems), check
    )


def _problems(check: EngineCheck, precision: str) -> tuple[str, ...]:
    """Return why an engine that runs must not ship."""
    problems = []
    if check.agreement is None:
        problems.append("there is no ONNX file to compare with; put the one it was built from here")
    elif not check.agreement.holds:
        lost, all_of_them = check.agreement.lost, check.agreement.detections
        problems.append(
            f"{lost} of {counted(all_of_them, 'detection')} differ from the ONNX file, wanted at "
            "most a tenth of at least one"
        )
    types = check.layers.computes_in if check.layers else {}
    if types and precision not in {"", *(t.lower() for t in types)}:
        listed = ", ".join(types)
        problems.append(f"nothing in the engine computes in {precision}, only in {listed}")
    return tuple(problems)


def record(
    path: Path,
    device: CudaDevice,
    checks: Sequence[ModelCheck],
    pace: Pace,
    before_c: dict[str, float],
    command: str,
) -> dict[str, Any]:
    """Make the record, plain values for JSON; `docs/deploy-jetson.md` explains its keys.

    Args:
        path: The file or package that was checked.
        device: The GPU.
        checks: One for each model.
        pace: How much was timed.
        before_c: Temperatures before the first frame, in degrees Celsius.
        command: The command line.
    """
    return {
        "format": FORMAT,
        "verdict": "passed" if checks and not any(c.problems for c in checks) else "failed",
        "model": path.name,
        "fastest": fastest(checks),
        "models": [asdict(c) for c in checks],
        "pace": asdict(pace),
        "device": asdict(device),
        "jetpack": system.jetpack_release(),
        "libraries": system.library_versions(),
        "groups": system.group_membership(),
        "power_mode": system.power_mode(),
        "clocks_mhz": {name: list(pair) for name, pair in system.clocks_mhz().items()},
        "memory_mib": system.memory_mib(),
        "temperatures_c": {"before": before_c, "after": system.temperatures_c()},
        "machine": machine_facts("on the GPU"),
        "command": command,
    }


def fastest(checks: Sequence[ModelCheck]) -> str | None:
    """Name the model with the lowest p99 at the rate among those without a problem."""
    good = {c.name: c.check.paced.p99_ms for c in checks if c.check and not c.problems}
    return min(good, key=lambda name: good[name]) if good else None


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
