"""Measure what reading a teacher's answers from disk saves, at the demo's shapes with ``strong``.

    python benchmarks/teacher_cache.py
    python benchmarks/teacher_cache.py --seeds 3 --data data/synth

Whole steps of training, loading included, are timed in turn, round after round: with the live
teacher, with its answers in a cache that is filled, with a teacher whose features cost nothing
(those of one batch lie in memory), and without any distillation, which no cache can be faster than.
All see the same pictures. A round takes as many steps of each as the data set has batches; gains
are in steps a second over the live teacher, the median over the rounds. With ``--seeds`` runs of
the demo's recipe are trained as well, with the live teacher and with a cache, and AP is compared.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click
import torch
from typing_extensions import override

from edgedetr.bench.result_file import ROOT, result_option, write_result
from edgedetr.distill.config import load_config
from edgedetr.distill.recipe import train
from edgedetr.distill.synth.writer import write_synth
from edgedetr.distill.teacher_config import TeacherCacheConfig
from edgedetr.distill.training.answer_cache import fill_cache, open_cache
from edgedetr.distill.training.distillation_model import trainee_of
from edgedetr.distill.training.loader import Loading, TrainingLoader, open_split, training_loader
from edgedetr.distill.training.models import inherited, open_student
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.runtime.commands.options import PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.distill.config import DistillConfig
    from edgedetr.distill.model import Model
    from edgedetr.distill.training.distillation_model import Trainee
    from edgedetr.distill.types import Features, Targets

CONFIG = ROOT / "distill" / "configs" / "synth.toml"
FRAMES = 100
"""Rendered frames, of which 80 are trained on: five batches."""
VIEWS = 2
WANTED = 1.6

MEASURES = (
    "distill/edgedetr/distill/training/teacher_cache.py",
    "distill/edgedetr/distill/training/answer_store.py",
    "distill/edgedetr/distill/training/answer_cache.py",
    "distill/edgedetr/distill/training/training_inputs.py",
    "distill/configs/synth.toml",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@result_option(__file__)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--methods", default="clock", show_default=True, metavar="NAME,NAME,...")
@click.option("--seeds", type=click.IntRange(0), default=0, show_default=True, help="Runs of each.")
@click.option("--epochs", type=click.IntRange(1), default=18, show_default=True, help="Of a run.")
@click.option("--data", type=PATH, help="What runs train on, a KITTI folder; default: the frames.")
def main(out: Path, rounds: int, methods: str, seeds: int, epochs: int, data: Path | None) -> None:
    """Time the ways of each method; write the figures and print them."""
    found, teacher = {}, ROOT / "distill" / "checkpoints" / "synth_teacher.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        write_synth(Path(folder) / "data", FRAMES, 0, 2)
        for name in methods.split(","):
            settings = [f"data.root={folder}/data", "data.augment=strong", f"methods=['{name}']"]
            settings += [f"teacher_cache.path={folder}/{name}", f"teacher_cache.views={VIEWS}"]
            config = load_config(CONFIG, [*settings, f"teacher={teacher}", f"epochs={rounds + 1}"])
            found[name] = ways_of(config, rounds)
        trained = [f"data.root={data or f'{folder}/data'}", "data.augment=strong"]
        trained += [f"teacher={teacher}", f"epochs={epochs}", f"eval_every={epochs}"]
        accuracy = accuracy_of(load_config(CONFIG, trained), Path(folder), seeds)
    report = {"methods": found, "rounds": rounds, "workers": 0, "wanted_at_least": WANTED}
    report |= {"accuracy": accuracy | {"epochs": epochs}} if seeds else {}
    write_result(out, report, MEASURES)
    for name, row in found.items():
        print(
            f"{name}: live {row['live_ms']:.0f} ms a step; steps a second over that: cache "
            f"{row['cache_gain']:.2f} (wanted {WANTED}), features for nothing "
            f"{row['free_gain']:.2f}, no distillation {row['alone_gain']:.2f}"
        )


def accuracy_of(config: DistillConfig, folder: Path, seeds: int) -> dict[str, Any]:
    """Train a config with the live teacher and with the cache; return AP of each seed, in turn.

    All runs share one cache, which the first fills.
    """
    stored = replace(config, teacher_cache=TeacherCacheConfig(str(folder / "answers")))
    arms = {"live": config, "cache": stored}
    found: dict[str, list[float]] = {name: [] for name in arms}
    for seed in range(seeds):
        for name, arm in arms.items():
            run = replace(arm, seed=seed)
            metrics = train(run, folder / f"{name}-{seed}", "python benchmarks/teacher_cache.py")
            found[name].append(metrics["ap"])
    if not seeds:
        return {}
    gaps = [cached - live for live, cached in zip(found["live"], found["cache"], strict=True)]
    spread = max(max(aps) - min(aps) for aps in found.values())
    print(
        f"AP live {mean(found['live']):.3f}, cache {mean(found['cache']):.3f}, mean difference "
        f"{mean(gaps):+.3f}; seeds of one way differ by up to {spread:.3f}"
    )
    return {"ap": found, "mean_difference": mean(gaps), "spread_of_seeds": spread}


def ways_of(config: DistillConfig, rounds: int) -> dict[str, Any]:
    """Time the steps of a config in each way; milliseconds of a step, and gains over live."""
    torch.manual_seed(config.seed)
    teacher = load_model(config.teacher)
    teacher.network.requires_grad_(requires_grad=False)
    ways = {name: _way(config, teacher) for name in ("live", "cache", "free")}
    ways["alone"] = _way(replace(config, methods=("none",)), teacher)
    loader, trainee, memory = ways["cache"]
    sources = {"teacher": "of the demo", "data.train_split: pixels of images": "rendered"}
    spec, about = trainee.student.spec, config.teacher_cache
    memory.store = loader.data.answers = open_cache(about, config.data, spec, teacher, sources)
    assert memory.store is not None  # noqa: S101 - the config names a folder
    lines: list[str] = []
    fill_cache(loader, memory, config.schedule, lines.append)
    ways["free"][1].teacher_memory = _FreeTeacher(teacher, spec)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, (loader, trainee, _) in ways.items():
            seconds = _epoch(loader, trainee, round_)
            if round_:
                times[name].append(1e3 * seconds / len(loader))
    gains = {
        f"{name}_gain": median(a / b for a, b in zip(times["live"], times[name], strict=True))
        for name in ("cache", "free", "alone")
    }
    steps = {f"{name}_ms": median(found) for name, found in times.items()}
    return steps | gains | {"cache_bytes": memory.store.bytes_on_disk, "said": lines[1:]}


class _FreeTeacher(TeacherMemory):
    """A teacher that costs nothing: it gives every batch the features of its first one."""

    first: Features | None = None

    @override
    def __call__(self, images: torch.Tensor, targets: Sequence[Targets] = ()) -> Features:
        """Return the features of some batch."""
        if self.first is None:
            self.first = self.ask(images, targets)
        return self.first


def _way(config: DistillConfig, teacher: Model) -> tuple[TrainingLoader, Trainee, TeacherMemory]:
    """Return a fresh student with what it trains on, and its teacher's memory."""
    data = config.data
    student = inherited(open_student(config.student, data.classes), teacher, config.student)
    trainee = trainee_of(config.method_configs, student, teacher)
    memory = TeacherMemory(teacher, student.spec)
    if trainee.teacher_memory is not None:
        trainee.teacher_memory = memory
    split = open_split(data, data.train_split)
    loading = Loading(VIEWS)
    loader = training_loader(data, config.schedule, split, student.spec, teacher.spec, loading)
    loader.data.read()
    return loader, trainee.train(), memory


def _epoch(loader: TrainingLoader, trainee: Trainee, epoch: int) -> float:
    """Take the steps of an epoch; return the seconds they took, with loading."""
    optimizer = torch.optim.AdamW(trainee.parameters(), lr=1e-4)
    started = perf_counter()
    for images, targets in loader.batches(epoch):
        detection, distillation = trainee(images, targets)
        loss = torch.stack([*detection.values(), *distillation.values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
    return perf_counter() - started


if __name__ == "__main__":
    main()
