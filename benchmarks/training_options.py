"""Measure what each option of a training step brings: steps a second and peak memory, in turns.

    python benchmarks/training_options.py

Writes ``benchmarks/results/training_options.json``. Short runs of the demo student with its teacher
on rendered frames, with ``strong``, loading included: the plain one and one with each option, round
after round, each in a process of its own. A gain is in steps a second over the plain run of the
same round; what is kept is the median over the rounds, and the largest peak of memory. A process
has one thread, so that a run of two processes has twice the cores of the plain one: beside it
stands one process with two threads. On a GPU the peak is that of its memory. The first steps of
each run warm up, or compile, and are left out.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click
import torch

from edgedetr.bench.result_file import ROOT, result_option, write_result
from edgedetr.distill.config import load_config
from edgedetr.distill.recipe import train
from edgedetr.distill.step_config import StepConfig
from edgedetr.distill.synth.writer import write_synth
from edgedetr.distill.training.qat import uncalibrated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedetr.distill.config import DistillConfig

CONFIG = ROOT / "distill" / "configs" / "synth.toml"
FRAMES = 100
"""Rendered frames, of which 80 are trained on: five batches."""
WARM = 4
"""Steps of a run that are not timed."""
COMMAND = "python benchmarks/training_options.py"

PLAIN = "plain"
OPTIONS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "bf16": {"precision": "bf16"},
    "compile": {"compile": True},
    "channels_last": {"channels_last": True},
    "checkpointing": {"checkpointing": True},
    "accumulate = 4": {"accumulate": 4},
    "augment_on_device": {},
    "2 threads": {},
    "2 processes": {},
    "2 processes with FSDP": {},
}
"""The settings of `StepConfig` in each run; what else an option is, `_arm` knows by its name."""

MEASURES = (
    "distill/edgedetr/distill/pixel_changes.py",
    "distill/edgedetr/distill/training/batch_parts.py",
    "distill/edgedetr/distill/training/distillation_model.py",
    "distill/edgedetr/distill/training/loader.py",
    "distill/edgedetr/distill/training/processes.py",
    "distill/edgedetr/distill/training/sharding.py",
    "distill/edgedetr/distill/training/speed.py",
    "distill/edgedetr/distill/training/step.py",
    "distill/configs/synth.toml",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--steps", type=click.IntRange(WARM + 2), default=25, show_default=True)
@click.option("--only", default="", metavar="NAME,NAME,...", help="Options beside the plain run.")
@result_option(__file__)
def main(rounds: int, steps: int, only: str, out: Path) -> None:
    """Run the options in turns; write the figures and print them."""
    names = [PLAIN, *(n for n in OPTIONS if n != PLAIN and (not only or n in only.split(",")))]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        write_synth(Path(folder) / "data", FRAMES, 0, 2)
        for round_ in range(rounds):
            for name in names:
                place = Path(folder) / f"{name} {round_}"
                found[name].append(_run(name, Path(folder) / "data", place, steps))
    options = {name: _summary(rows, found[PLAIN]) for name, rows in found.items()}
    report = {
        "options": options,
        "rounds": rounds,
        "steps": steps,
        "compiles": _compiles(),
    }
    write_result(out, report, MEASURES)
    for name, row in options.items():
        print(
            f"{name:20}{row['steps_a_second']:7.2f} steps/s {row['gain']:6.2f} times the plain run "
            f"{row['peak_mib']:8.0f} MiB"
        )


def _summary(
    rows: Sequence[Mapping[str, float]], plain: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    return {
        "steps_a_second": median(1 / row["seconds"] for row in rows),
        "gain": median(p["seconds"] / r["seconds"] for r, p in zip(rows, plain, strict=True)),
        "peak_mib": max(row["peak_mib"] for row in rows),
    }


def _run(name: str, data: Path, place: Path, steps: int) -> dict[str, float]:
    """Train with an option; return the seconds of a step, and the peak memory of all processes."""
    place.mkdir()
    config = _arm(name, data, steps)
    count = int(found[1]) if (found := re.match(r"(\d) processes", name)) else 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": probe.getsockname()[1]}
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, **address} if count > 1 else {}
    shared |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": 2} if "FSDP" in name else {}
    threads = 2 if name == "2 threads" else 1
    processes = [
        get_context("spawn").Process(target=_train, args=(config, place, rank, threads, shared))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"a run with {name} failed")
    seconds = float((place / "seconds").read_text(encoding="ascii"))
    peaks = [float((place / f"peak {rank}").read_text(encoding="ascii")) for rank in range(count)]
    return {"seconds": seconds, "peak_mib": sum(peaks)}


def _train(
    config: DistillConfig, place: Path, rank: int, threads: int, shared: dict[str, object]
) -> None:
    """Train in one of the processes of a run; leave what was measured in its folder."""
    torch.set_num_threads(threads)
    if "WORLD_SIZE" in shared:
        shared = {"RANK": rank, "LOCAL_RANK": rank, **shared}
    os.environ |= {key: str(value) for key, value in shared.items()}
    clock = _Clock()
    metrics = train(config, place / "run", COMMAND, uncalibrated, [clock])
    if rank == 0:
        (place / "seconds").write_text(str(median(clock.seconds[WARM:])), encoding="ascii")
    peak = metrics.get("peak_memory_mib", _peak_mib())
    (place / f"peak {rank}").write_text(str(peak), encoding="ascii")


def _arm(name: str, data: Path, steps: int) -> DistillConfig:
    teacher = ROOT / "distill" / "checkpoints" / "synth_teacher.safetensors"
    config = load_config(CONFIG, [f"data.root={data}", f"teacher={teacher}", "data.augment=strong"])
    own = replace(config.data, augment_on_device=name == "augment_on_device")
    epochs = -(-steps // 5)
    return replace(
        config,
        data=own,
        epochs=epochs,
        eval_every=epochs,
        train=StepConfig(**OPTIONS[name]),
        optimizer=replace(config.optimizer, warmup_steps=0),
    )


class _Clock:
    """Notes the time from step to step, loading included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._before = perf_counter()

    def start(self, _: object) -> None:
        self._before = perf_counter()

    def step(self, *_: object) -> None:
        now = perf_counter()
        self.seconds.append(now - self._before)
        self._before = now

    def evaluation(self, *_: object) -> None:
        """Take an evaluation, which is no step."""

    def close(self) -> None:
        """End with the run."""


def _peak_mib() -> float:
    """Return the largest memory that this process had, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None  # noqa: S101 - Linux has it
    return int(found[1]) / 1024


def _compiles() -> str:
    """Return ``yes``, or why torch.compile does not work here."""
    try:
        torch.compile(torch.nn.functional.relu)(torch.zeros(8) - 1)
    except Exception as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return "yes"


if __name__ == "__main__":
    main()
