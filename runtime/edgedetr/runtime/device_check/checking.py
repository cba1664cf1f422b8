"""Run the engine of one model on this device, or rehearse that on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedetr.runtime.device_check.engines import Engine, engine_of, onnx_of
from edgedetr.runtime.device_check.judgement import problems_of
from edgedetr.runtime.device_check.measure import EngineCheck, check_engine_runs, rehearse
from edgedetr.runtime.device_check.model_check import ModelCheck
from edgedetr.runtime.errors import EdgeDetrError
from edgedetr.runtime.files import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgedetr.runtime.device_check.engines import Build, Model
    from edgedetr.runtime.device_check.measure import Pace
    from edgedetr.runtime.types import Frame


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
