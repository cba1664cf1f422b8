"""Check the engine of one model on this device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgedetr.runtime.device_check.engines import Engine, engine_of, onnx_of
from edgedetr.runtime.device_check.judgement import problems_of
from edgedetr.runtime.device_check.measure import EngineCheck, check_engine_runs, rehearse
from edgedetr.runtime.errors import EdgeDetrError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgedetr.runtime.device_check.engines import Build, Model
    from edgedetr.runtime.device_check.measure import Pace
    from edgedetr.runtime.types import Frame


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


@dataclass(frozen=True)
class Place:
    """How models are run.

    Attributes:
        state: Folder that keeps what is built.
        build: What builds, see `engine_of`.
        simulate: Whether the ONNX file runs in ONNX Runtime on the CPU instead.
    """

    state: Path
    build: Build | None = None
    simulate: bool = False


def check_model(
    model: Model,
    frames: Sequence[Frame],
    pace: Pace,
    place: Place,
    on_frame: Callable[[], object] = lambda: None,
) -> ModelCheck:
    """Check the engine of one model; what fails becomes a problem of the record.

    Args:
        model: The model; an ONNX file is built first.
        frames: Real frames.
        pace: How much to time.
        place: Where engines are built, or that it is a rehearsal.
        on_frame: Called after every timed frame.
    """
    built: Engine | None = None
    check: EngineCheck | None = None
    try:
        if place.simulate:
            check = rehearse(onnx_of(model), frames, pace, on_frame)
        else:
            built = engine_of(model, place.state, place.build)
            check = check_engine_runs(built, frames, pace, on_frame)
        problems = problems_of(check, model.precision)
    except EdgeDetrError as error:
        problems = (str(error),)
    build_s = built.build_s if built else None
    return ModelCheck(
        name=model.name,
        sha256=sha256(model.path),
        precision=model.precision,
        build_s=build_s,
        problems=problems,
        check=check,
        beside=model.beside,
    )


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
