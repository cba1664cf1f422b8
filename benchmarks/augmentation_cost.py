"""Measure what each augmentation adds to a picture, and each way of sampling to a step.

    python benchmarks/augmentation_cost.py --data data/synth

Writes ``benchmarks/results/augmentation_cost.json``. Frames lie in memory at network size, as those
of a small data set do. All augmentations are timed in turn, round after round, so that a busy
machine slows all of them alike; what is printed is the median over the rounds of the milliseconds
for one batch, in one process without a GPU, and its share of the demo student's step. ``strong`` is
timed with ``augment_on_device`` too: what is left to loading, and what the device does, which is a
GPU where there is one, with the transfer of the batch.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import click
import torch

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.distill.config import DataConfig, DistillConfig, StudentConfig
from edgedetr.distill.model import new_model
from edgedetr.distill.training.augment import augmented_on_device
from edgedetr.distill.training.loader import open_split, training_loader
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.sampling import Item
from edgedetr.distill.training.training_inputs import TrainingInputs
from edgedetr.runtime.commands.options import PATH
from edgedetr.runtime.plugins import names
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.distill.types import Losses


BATCH = 16
STUDENT = StudentConfig(preset="edge-micro", input_hw=(96, 320))
SCALES = (0.67, 1.0, 1.34)
"""Of the multi-scale batches: 64 x 224, 96 x 320 and 128 x 416."""

MEASURES = (
    "distill/edgedetr/distill/augmentations",
    "distill/edgedetr/distill/picture.py",
    "distill/edgedetr/distill/pixel_changes.py",
    "distill/edgedetr/distill/training/augment.py",
    "distill/edgedetr/distill/training/training_inputs.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--data", type=PATH, required=True, help="A KITTI folder.")
@click.option("--rounds", type=click.IntRange(3), default=15, show_default=True)
@result_option(__file__)
def main(data: Path, rounds: int, out: Path) -> None:
    """Measure and write the figures."""
    torch.set_num_threads(1)
    config = DistillConfig(data=DataConfig(root=str(data)), student=STUDENT, batch_size=BATCH)
    split = open_split(config.data, "train")
    spec = ModelSpec(STUDENT.input_hw, config.data.classes, resize=STUDENT.resize)
    inputs = NetworkInputs(split, spec)
    inputs.read()
    kinds = ["flip", "strong", *sorted({*names("edgedetr.distill.augmentations")} - {"flip"})]
    made = {kind: TrainingInputs(inputs, kind, 0) for kind in kinds}
    times = batch_times(made, inputs, rounds)
    plain = times.pop("none")
    step = step_times(config, rounds)
    on_device = device_times(inputs, rounds)
    report = {
        "batch": BATCH,
        "input_hw": STUDENT.input_hw,
        "rounds": rounds,
        "student": f"{STUDENT.family}/{STUDENT.preset}",
        "student_step_ms": step["one size"],
        "no_augmentation_ms": plain,
        "added_ms": {kind: ms - plain for kind, ms in times.items()},
        "strong_on_device": on_device,
        "multi_scale_step_ms": step["multi-scale"],
        "scales": SCALES,
    }
    write_result(out, report, MEASURES)
    print(f"a step takes {step['one size']:.0f} ms, its batch {plain:.1f} ms; added to a batch:")
    for kind, ms in times.items():
        share = 100 * (ms - plain) / step["one size"]
        print(f"{kind:14}{ms - plain:8.2f} ms {share:6.1f} % of the step")
    print(
        f"strong on {on_device['device']}: {on_device['loading_ms']:.2f} ms in loading, "
        f"{on_device['device_ms']:.2f} ms there, of {on_device['bytes'] / 2**20:.1f} MiB"
    )
    print(f"multi-scale batches: {step['multi-scale']:.0f} ms a step")


def batch_times(
    made: dict[str, TrainingInputs], inputs: NetworkInputs, rounds: int
) -> dict[str, float]:
    """Return the median milliseconds in which each kind makes a batch; ``none`` does nothing."""
    times: dict[str, list[float]] = {kind: [] for kind in ("none", *made)}
    for round_ in range(rounds):
        items = [Item(round_, (round_ * BATCH + i) % len(inputs)) for i in range(BATCH)]
        for kind, found in times.items():
            started = perf_counter_ns()
            for item in items:
                if kind == "none":
                    inputs.normalised(inputs[item.image].pixels)
                else:
                    made[kind][item]
            found.append((perf_counter_ns() - started) / 1e6)
    return {kind: median(found) for kind, found in times.items()}


def device_times(inputs: NetworkInputs, rounds: int) -> dict[str, Any]:
    """Return the median milliseconds of a batch of ``strong`` that its device augments.

    Normalising is part of no figure: the device does that where it does not augment, too.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pixels = NetworkInputs(inputs.dataset, ModelSpec(STUDENT.input_hw, ("Car",)), stay_pixels=True)
    pixels.read()
    data = TrainingInputs(pixels, "strong", 0, on_device=True)
    loading, there, size = [], [], 0
    for round_ in range(rounds):
        started = perf_counter_ns()
        some = [data[round_, (round_ * BATCH + i) % len(data)] for i in range(BATCH)]
        images, truths = torch.stack([image for image, _ in some]), [truth for _, truth in some]
        loaded = perf_counter_ns()
        augmented_on_device(images.to(device), truths).sum().item()
        there.append((perf_counter_ns() - loaded) / 1e6)
        loading.append((loaded - started) / 1e6)
        size = images.nbytes
    times = {"loading_ms": median(loading), "device_ms": median(there)}
    return {"device": device.type, **times, "bytes": size, "bytes_in_fp32": 4 * size}


def step_times(config: DistillConfig, rounds: int) -> dict[str, float]:
    """Return the median milliseconds of a forward and backward pass, at one size and at several."""
    model = new_model(
        STUDENT.family, STUDENT.preset, ModelSpec(STUDENT.input_hw, config.data.classes)
    )
    model.network.train()
    split = open_split(config.data, "train")
    kinds = {
        "one size": config,
        "multi-scale": replace(config, data=replace(config.data, scales=SCALES)),
    }
    loaders = {
        name: training_loader(own.data, own.schedule, split, model.spec)
        for name, own in kinds.items()
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for batches in islice(zip(*(own.batches(0) for own in loaders.values()), strict=True), rounds):
        for name, (images, targets) in zip(kinds, batches, strict=True):
            started = perf_counter_ns()
            _step(model.network, model.training_pass(images, targets)[0])
            times[name].append((perf_counter_ns() - started) / 1e6)
    return {name: median(found) for name, found in times.items()}


def _step(network: torch.nn.Module, losses: Losses) -> None:
    network.zero_grad(set_to_none=True)
    torch.autograd.backward(torch.stack([*losses.values()]).sum())


if __name__ == "__main__":
    main()
