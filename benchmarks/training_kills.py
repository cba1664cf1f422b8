"""Kill a tiny training at random moments, let it go on, and compare it with one that nobody killed.

    python benchmarks/training_kills.py --kills 200 --workers 2

Writes ``benchmarks/results/training_kills.json``; exit status 1 where a run ends
otherwise. Every kill is a SIGKILL at a moment drawn from the time that a whole run takes. A run is
killed until it comes to its end, then another one begins, until there were enough kills. Each must
leave the same student, byte by byte, and log the same losses, each once. Loader processes augment
the pictures, and a state is written after every step.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.distill.config import DataConfig, DistillConfig, StudentConfig
from edgedetr.distill.optimizer_config import OptimizerConfig
from edgedetr.distill.recipe import train
from edgedetr.distill.synth.writer import write_synth
from edgedetr.runtime.manifest import versions_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkProcess

FRAMES = 10
PACKAGES = ("edgedetr", "torch", "safetensors")
COMMAND = "python benchmarks/training_kills.py"

MEASURES = (
    "distill/edgedetr/distill/recipe.py",
    "distill/edgedetr/distill/training/loop.py",
    "distill/edgedetr/distill/training/run_folder.py",
    "distill/edgedetr/distill/training/run_log.py",
    "distill/edgedetr/distill/training/run_state.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--kills", type=click.IntRange(1), default=200, show_default=True)
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
@result_option(__file__)
def main(kills: int, workers: int, seed: int, out: Path) -> None:
    """Kill, compare and write what came of it."""
    moments = random.Random(seed)  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as name:
        found = killed_runs(Path(name), kills, workers, moments)
    found |= {"workers": workers}
    write_result(out, found | {"versions": versions_of(PACKAGES)}, MEASURES)
    click.echo(
        f"{found['kills']} kills in {found['runs']} runs with {workers} loader processes, "
        f"{found['before_an_epoch']} before a state was saved: {found['equal']} of "
        f"{found['runs']} are equal to the whole run"
    )
    sys.exit(found["equal"] != found["runs"])


def killed_runs(folder: Path, kills: int, workers: int, moments: random.Random) -> dict[str, Any]:
    """Train until there were enough kills; count the runs, and those that ended as the whole one.

    Everything runs in processes of its own, so that each begins alike.
    """
    config = DistillConfig(
        data=DataConfig(root=str(folder / "data"), augment="mosaic+strong", workers=workers),
        student=StudentConfig(preset="edge-micro", input_hw=(64, 96)),
        optimizer=OptimizerConfig(warmup_steps=2),
        epochs=3,
        batch_size=4,
        eval_every=1,
        save_every_steps=1,
    )
    _ended(_started(lambda: write_synth(folder / "data", FRAMES, 0, 1)))
    whole = folder / "whole"
    begun = perf_counter()
    _ended(_started(lambda: train(config, whole, COMMAND)))
    seconds = perf_counter() - begun
    killed = early = equal = runs = 0
    while killed < kills:
        runs += 1
        out = folder / f"run{runs}"
        while True:
            process = _started(lambda out=out: train(config, out, COMMAND))  # type: ignore[misc]
            process.join(moments.uniform(0, seconds) if killed < kills else None)
            if process.exitcode is not None:
                break
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            killed += 1
            early += not (out / "state.safetensors").is_file()
        _ended(process)
        equal += _result(out) == _result(whole)
    return {"kills": killed, "runs": runs, "before_an_epoch": early, "equal": equal}


def _started(work: Callable[[], object]) -> ForkProcess:
    process = get_context("fork").Process(target=work)
    process.start()
    return process


def _ended(process: ForkProcess) -> None:
    process.join()
    if process.exitcode:
        raise RuntimeError(f"a process ended with {process.exitcode}")


def _result(out: Path) -> tuple[bytes, list[tuple[Any, ...]], list[str]]:
    """Return what must be the same: the student, every line of the log but for times, the files."""
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    figures = [tuple(v for k, v in json.loads(line).items() if k != "seconds") for line in lines]
    names = sorted(p.name for p in out.iterdir() if p.name.endswith((".tmp", ".lock", ".json")))
    return (out / "student.safetensors").read_bytes(), figures, names


if __name__ == "__main__":
    main()
