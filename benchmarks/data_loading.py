"""Measure whether loading keeps up with training, from files and from tar shards, and its memory.

    python benchmarks/data_loading.py --data data/synth

Writes ``benchmarks/results/data_loading.json``. The demo student's step with its teacher is timed
on the cores that there are, and so is the loading of its batches, by as many processes, with every
picture read and decoded anew: the rates are of images a second, and beside them stands the time of
a core that an image takes, which other work on the machine hardly changes. Then batches of small
pictures are loaded from shards as many times as ``--steps`` says, and the memory of each process is
noted along the way: its share of what no file backs (``Pss_Anon`` and ``Pss_Shmem`` of Linux's
``smaps_rollup``), so that the sum over the processes is what they take.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import click
import cv2
import numpy as np
import torch
from tqdm import tqdm

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.distill.config import load_config
from edgedetr.distill.dataset_shards import write_shards
from edgedetr.distill.labels.frames import CheckedFrame, LabelledObject
from edgedetr.distill.labels.shard_writing import write_set
from edgedetr.distill.training import network_inputs
from edgedetr.distill.training.distillation_model import trainee_of
from edgedetr.distill.training.loader import open_split, training_loader
from edgedetr.distill.training.models import inherited, open_student, open_teacher
from edgedetr.distill.training.optimizer import optimizer_of
from edgedetr.runtime.commands.options import PATH

if TYPE_CHECKING:
    from edgedetr.distill.config import DistillConfig
    from edgedetr.distill.training.loader import TrainingLoader

CONFIG = "distill/configs/synth.toml"
SHARD_BYTES = 4 << 20
"""About twenty shards of the demo's pictures."""
NOTES = 10
"""How often memory is noted."""
WANTED = 1.5
"""Of what the step consumes, at least."""

MEASURES = (
    "distill/edgedetr/distill/data/shards.py",
    "distill/edgedetr/distill/labels/pictures.py",
    "distill/edgedetr/distill/labels/shard_files.py",
    "distill/edgedetr/distill/training/loader.py",
    "distill/edgedetr/distill/training/network_inputs.py",
    "distill/edgedetr/distill/training/training_inputs.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--data", type=PATH, required=True, help="The demo's data set, a KITTI folder.")
@click.option("--split", default="train", show_default=True, help="What is loaded.")
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--steps", type=click.IntRange(100), default=10_000, show_default=True)
@result_option(__file__)
def main(data: Path, split: str, epochs: int, steps: int, out: Path) -> None:
    """Measure and write the figures."""
    network_inputs.MEMORY_LIMIT_BYTES = 0  # a data set that memory cannot hold
    cores = len(os.sched_getaffinity(0))
    own = (f"root={data}", f"workers={cores}", f"train_split={split}")
    config = load_config(CONFIG, [f"data.{setting}" for setting in own])
    with tempfile.TemporaryDirectory() as name:
        roots = {"files": (str(data), "kitti"), "shards": (f"{name}/set", "shards")}
        write_shards(data, roots["shards"][0], "kitti", SHARD_BYTES)
        of_kind = {
            kind: replace(config, data=replace(config.data, root=root, format=format_))
            for kind, (root, format_) in roots.items()
        }
        consumed, step_ms = rate_of_steps(of_kind["files"], cores)
        loaded = {kind: loading_rate(loader_of(c), epochs) for kind, c in of_kind.items()}
        loading_ms = {kind: loading_cpu_ms(loader_of(c, 0)) for kind, c in of_kind.items()}
        own_root = small_set(Path(name))
        small = replace(config.data, root=own_root, format="shards", train_split="train")
        memory = memory_over(loader_of(replace(config, data=small, batch_size=2)), steps)
    figures = {
        "cores": cores,
        "batch": config.batch_size,
        "input_hw": config.student.input_hw,
        "step_images_a_second": consumed,
        "loading_images_a_second": loaded,
        "loading_over_step": {kind: rate / consumed for kind, rate in loaded.items()},
        "step_core_ms_an_image": step_ms,
        "loading_core_ms_an_image": loading_ms,
        "split": split,
        "steps": steps,
        "memory_mib": memory,
    }
    write_result(out, figures, MEASURES)
    for kind, rate in loaded.items():
        click.echo(
            f"{kind}: {rate:.0f} images/s, {rate / consumed:.2f} times the step's; "
            f"{loading_ms[kind]:.2f} ms of a core an image, the step {step_ms:.2f}"
        )
    for process, mib in memory.items():
        click.echo(f"{process}: {mib[0]:.0f} MiB after {steps // NOTES}, {mib[-1]:.0f} at the end")
    sys.exit(min(loaded.values()) < WANTED * consumed)


def loader_of(config: DistillConfig, workers: int | None = None) -> TrainingLoader:
    """Make the loader of a run, with other workers than it has where they are given."""
    if workers is not None:
        config = replace(config, data=replace(config.data, workers=workers))
    student = open_student(config.student, config.data.classes, config.teacher_config.class_names)
    split = open_split(config.data, config.data.train_split)
    return training_loader(config.data, config.schedule, split, student.spec)


def rate_of_steps(config: DistillConfig, cores: int, count: int = 8) -> tuple[float, float]:
    """Time the steps of a run on all cores, without loading: images a second, core ms an image.

    The median of the steps counts; the first ones warm up.
    """
    torch.set_num_threads(cores)
    names = config.teacher_config.class_names
    teacher = open_teacher(config.teacher_config)
    student = open_student(config.student, config.data.classes, names)
    student = inherited(student, teacher, config.student)
    trainee = trainee_of(config.method_configs, student, teacher, None)
    optimizer = optimizer_of(trainee, config.optimizer)
    loader = loader_of(config, 0)
    batches = [batch for batch, _ in zip(loader.batches(0), range(count), strict=False)]
    trainee.train()
    times, core_times = [], []
    for images, targets in batches:
        begun, core_begun = perf_counter(), process_time()
        detection, distillation = trainee(images, targets)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.stack([*detection.values(), *distillation.values()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        times.append(perf_counter() - begun)
        core_times.append(process_time() - core_begun)
    torch.set_num_threads(1)
    return config.batch_size / median(times[2:]), 1e3 * median(core_times[2:]) / config.batch_size


def loading_cpu_ms(loader: TrainingLoader) -> float:
    """Return how long a core works to load an image, in this process."""
    begun = process_time()
    images = sum(len(batch) for batch, _ in loader.batches(0))
    return 1e3 * (process_time() - begun) / images


def loading_rate(loader: TrainingLoader, epochs: int) -> float:
    """Return how many images are loaded in a second; the first epoch starts the processes."""
    for _ in loader.batches(0):
        pass
    begun, images = perf_counter(), 0
    for epoch in range(1, epochs + 1):
        images += sum(len(batch) for batch, _ in loader.batches(epoch))
    return images / (perf_counter() - begun)


def small_set(folder: Path) -> str:
    """Write noise at the demo's network size into twenty shards; return where they lie."""
    rng, frames = np.random.default_rng(0), []
    for number in range(400):
        path = folder / f"{number:06d}.png"
        pixels = rng.integers(0, 256, (96, 320, 3), np.uint8)
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        car = LabelledObject("Car", (10, 10, 90, 60))
        frames.append(CheckedFrame(path, path.stem, (96, 320), [car]))
    write_set(folder / "small", {"train": frames, "val": frames[:1]}, ("Car",), 20 * 92_000)
    return str(folder / "small")


def memory_over(loader: TrainingLoader, steps: int) -> dict[str, list[float]]:
    """Load batches; return what each process has of its own in MiB, noted ten times."""
    done, epoch, due = 0, 0, steps // NOTES
    found: dict[str, list[float]] = {}
    with tqdm(total=steps, unit="step", disable=None) as bar:
        while done < steps:
            for _ in loader.batches(epoch):
                done += 1
                bar.update()
                if done % due == 0:
                    for name, pid in processes().items():
                        found.setdefault(name, []).append(own_mib(pid))
                if done == steps:
                    break
            epoch += 1
    return found


def processes() -> dict[str, int]:
    """Name this process and those that load for it."""
    mine = os.getpid()
    text = Path(f"/proc/{mine}/task/{mine}/children").read_text(encoding="ascii")
    return {"training": mine} | {f"loader {i}": int(p) for i, p in enumerate(text.split())}


def own_mib(pid: int) -> float:
    """Return a process's share of the memory that no file backs, in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return (
        sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem")))
        / 1024
    )


if __name__ == "__main__":
    main()
