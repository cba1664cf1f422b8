"""Estimate the time and memory of the recipes on a GPU, from a counted step on the CPU.

    python benchmarks/recipe_cost.py

Writes ``benchmarks/results/recipe_cost.json`` and prints the table of docs/recipes.md. Of each
recipe the models are built at their full size with random weights, and one step of one image is
run: a counter adds up the floating-point operations of the student's forward and backward pass and
of the teacher's encoder, and hooks add up what the backward pass keeps. From these follow

- time: operations of all images of all epochs at the rate that a GPU is assumed to sustain,
- memory: weights, gradients, AdamW's moments and the moving average, what a batch keeps, and the
  teacher's weights, in FP32.

Neither evaluation nor loading is in the time, nor the temporary memory of single operators. It is
an estimate: nobody has run these recipes to their end here.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import click
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgedetr.bench.result_file import ROOT, result_option, write_result
from edgedetr.distill.config import load_config
from edgedetr.distill.model import Model, new_model
from edgedetr.distill.types import Targets
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.distill.config import DistillConfig

CONFIGS = ROOT / "distill" / "configs"
TRAINING_IMAGES = {"kitti": 3712, "bdd100k": 69863, "coco": 118287}
"""Of the usual training splits: half of KITTI, and BDD100K's and COCO's of 2017."""

TEACHERS = {
    "ustc-community/dfine-large-coco": ("d_fine", "large"),
    "PekingU/rtdetr_v2_r101vd": ("rt_detr_v2", "r101"),
}
"""Family and preset of the teachers by their names on the hub."""

ASSUMED_TFLOPS = 10.0
"""What a GPU sustains in training, in 1e12 operations a second: about half of an NVIDIA A100's
19.5 in FP32 without tensor cores."""

FP32_BYTES = 4
COPIES = 5
"""Of the student's weights: themselves, gradients, two moments and the moving average."""

OBJECTS = 8
"""Of the image of the counted step."""

MEASURES = ("distill/configs", "distill/edgedetr/distill/detectors")
"""What makes these figures: once it changes, they are stale."""


@click.command()
@result_option(__file__)
def main(out: Path) -> None:
    """Count a step of each recipe; write and print the estimates."""
    names = sorted(
        path.stem for start in ("kitti_d*", "bdd100k*", "coco*") for path in CONFIGS.glob(start)
    )
    found = {name: estimate(name) for name in names}
    report = {"assumed_tflops": ASSUMED_TFLOPS, "recipes": found}
    write_result(out, report, MEASURES)
    print("| recipe | student | GFLOP an image | memory | time of the run |\n|---|---|---|---|---|")
    for name, row in found.items():
        print(
            f"| `{name}` | {row['student']}, {row['parameters_m']:.1f} M | "
            f"{row['gflop_per_image']:.0f} | {row['memory_gib']:.1f} GiB | {row['hours']:.1f} h |"
        )


def estimate(name: str) -> dict[str, Any]:
    """Count one step of a recipe; return what follows for a GPU."""
    config = load_config(CONFIGS / f"{name}.toml", ["class_map={}"])
    torch.manual_seed(0)
    spec = ModelSpec(config.student.input_hw, config.data.classes)
    student = new_model(config.student.family, config.student.preset, spec)
    started = perf_counter()
    step_flop, kept_bytes = counted_step(student)
    seconds = perf_counter() - started
    teacher_flop, teacher_bytes = counted_teacher(config)
    flop = step_flop + teacher_flop
    images = TRAINING_IMAGES[name.split("_", maxsplit=1)[0]] * config.epochs
    weights = sum(p.numel() for p in student.network.parameters())
    memory = COPIES * FP32_BYTES * weights + config.batch_size * kept_bytes + teacher_bytes
    return {
        "student": f"{config.student.family}/{config.student.preset}",
        "input_hw": config.student.input_hw,
        "batch_size": config.batch_size,
        "epochs": config.epochs,
        "images": images,
        "parameters_m": weights / 1e6,
        "gflop_per_image": flop / 1e9,
        "kept_mib_per_image": kept_bytes / 2**20,
        "cpu_step_s": seconds,
        "memory_gib": memory / 2**30,
        "hours": images * flop / (ASSUMED_TFLOPS * 1e12) / 3600,
    }


def counted_step(student: Model) -> tuple[int, int]:
    """Take one step of one image; return its operations and the bytes kept for backward."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    student.network.train()
    boxes = torch.cat([torch.rand(OBJECTS, 2) * 0.6 + 0.2, torch.full((OBJECTS, 2), 0.2)], 1)
    labels = torch.arange(OBJECTS) % student.num_classes
    targets = [Targets(labels, boxes, torch.zeros(0, 4)) for _ in range(2)]
    images = torch.rand(2, 3, *student.spec.input_hw)
    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            losses, _ = student.training_pass(images, targets)
            loss = torch.stack([*losses.values()]).sum()
        torch.autograd.backward(loss)
    weights = {p.untyped_storage().data_ptr() for p in student.network.parameters()}
    activations = sum(size for place, size in kept.items() if place not in weights)
    return counter.get_total_flops() // 2, activations // 2


def counted_teacher(config: DistillConfig) -> tuple[int, int]:
    """Encode one image with the recipe's teacher; return its operations and weights in bytes."""
    if not config.teacher:
        return 0, 0
    family, preset = TEACHERS[config.teacher]
    spec = ModelSpec(config.student.input_hw, config.data.classes)
    teacher = new_model(family, preset, spec)
    teacher.network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        teacher.encode(torch.rand(1, 3, *spec.input_hw))
    weights = sum(p.numel() for p in teacher.network.parameters())
    return counter.get_total_flops(), FP32_BYTES * weights


if __name__ == "__main__":
    main()
