"""Measure the backends of this machine beside each other, model only.

    python benchmarks/backends.py runs/demo/student.onnx runs/demo/student.int8.onnx

Writes ``benchmarks/results/backends.json``. Every backend that runs here takes turns of several
frames, so that a busy machine slows all alike, and its first frames of a turn do not count: threads
of the one before may still spin. The model sees the golden frame. Opening is timed once, with the
library imported before; of ``auto`` it includes the measuring by which it chooses.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import click

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.runtime.backend_lookup import backend
from edgedetr.runtime.errors import BackendError, UsageError
from edgedetr.runtime.machine import machine_facts
from edgedetr.runtime.plugins import names
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.self_test import golden_frame
from edgedetr.runtime.timing import latency_from_samples

if TYPE_CHECKING:
    from edgedetr.runtime.session import Session

FIRST, COUNTED = 3, 10
"""Frames of a turn: those that do not count, and those that do."""

MEASURES = ("runtime/edgedetr/runtime/backends",)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.argument("models", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--turns", type=click.IntRange(1), default=20, show_default=True)
@result_option(__file__)
def main(models: tuple[Path, ...], turns: int, out: Path) -> None:
    """Measure and write the figures."""
    figures = {
        "machine": machine_facts("each that is named"),
        "models": {path.name: measure(path, turns) for path in models},
    }
    write_result(out, figures, MEASURES)
    click.echo(json.dumps(figures, indent=2))


def measure(path: Path, turns: int) -> dict[str, Any]:
    """Time one model in every backend that runs it here."""
    sessions: dict[str, Session] = {}
    opening_s = {}
    for name in names("edgedetr.runtime.backends"):
        try:
            module = backend(name)
            if path.suffix in module.SUFFIXES and name != "auto":
                opening_s[name], sessions[name] = timed_opening(name, path)
        except (BackendError, UsageError) as error:  # noqa: PERF203 - a few backends
            click.echo(f"{name} does not run here: {error}", err=True)
    samples: dict[str, list[int]] = {name: [] for name in sessions}
    for _ in range(turns):
        for name, session in sessions.items():
            take_turn(session, samples[name])
    measured = {}
    for name, session in sessions.items():
        latency = latency_from_samples(samples[name])
        measured[name] = {
            "runs_on": session.runs_on,
            "frames": latency.samples,
            "p50_ms": round(latency.p50_ms, 3),
            "p99_ms": round(latency.p99_ms, 3),
            "opening_s": opening_s[name],
        }
        session.close()
    seconds, chosen = timed_opening("auto", path)
    measured["auto"] = {"runs_on": chosen.runs_on, "opening_s": seconds}
    chosen.close()
    return measured


def timed_opening(name: str, path: Path) -> tuple[float, Session]:
    """Open a model and give it the golden frame; return the seconds of opening and the session."""
    module = backend(name)
    start_ns = perf_counter_ns()
    session = module.open_session(path)
    seconds = (perf_counter_ns() - start_ns) / 1e9
    Preprocessor(session.spec)(golden_frame(session.spec.input_hw), session.images[0])
    return round(seconds, 2), session


def take_turn(session: Session, samples_ns: list[int]) -> None:
    """Run the frames of a turn."""
    for frame in range(FIRST + COUNTED):
        start_ns = perf_counter_ns()
        session.infer()
        if frame >= FIRST:
            samples_ns.append(perf_counter_ns() - start_ns)


if __name__ == "__main__":
    main()
