r"""Measure what two inputs of the methods are worth: the content of queries, and fitted adapters.

    edgedetr data synth data/synth --frames 900 --seed 0
    python benchmarks/method_inputs.py --data data/synth --out benchmarks/results/method_inputs.json

A teacher decodes its own boxes again, with three contents: what it chose itself, what
`place_content` makes of each box, and the mean of its class embeddings; AP on held-out frames. And
CLoCKDistill's memory loss of a student before its first step, on the same frames: with random
adapters, and with adapters fitted on training frames; from scratch and inheriting.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, cast

import torch

from edgedetr.bench.result_file import write_result
from edgedetr.distill.config import MethodConfig
from edgedetr.distill.data.kitti import open_dataset
from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.distill.methods import method
from edgedetr.distill.model import new_model
from edgedetr.distill.training.adapters import IMAGES, first_batches, fit_adapters
from edgedetr.distill.training.distillation_model import Trainee
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.objective import distillation_of
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.training.training_inputs import TrainingInputs
from edgedetr.distill.types import Batch, Queries
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.inheritance import inherit
from edgedetr.runtime.postprocess import postprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from edgedetr.distill.data import Dataset
    from edgedetr.distill.model import Model
    from edgedetr.distill.types import Memory

ROOT = Path(__file__).parents[1]
TEACHER = "distill/checkpoints/synth_teacher.safetensors"
PRESET = "edge-tiny"
FRAMES = 96
BATCH = 16
SEEDS = (0, 1, 2)

MEASURES = (
    "distill/edgedetr/distill/training/adapters.py",
    "distill/edgedetr/distill/losses/least_squares.py",
    "distill/edgedetr/distill/methods/clock.py",
    "distill/edgedetr/distill/losses/feature_levels.py",
    "distill/edgedetr/distill/networks/real_time_detr.py",
)
"""What makes these figures: once it changes, they are stale."""


def main() -> None:
    """Measure both and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a KITTI folder")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    teacher = load_model(ROOT / TEACHER)
    teacher.network.eval().requires_grad_(requires_grad=False)
    train, held_out = (
        open_dataset(arguments.data, split, teacher.spec.class_names) for split in ("train", "val")
    )
    figures = {
        "teacher": TEACHER,
        "frames": FRAMES,
        "fitted_on_frames": IMAGES,
        "seeds": SEEDS,
        "ap_of_the_teachers_own_boxes": {
            name: ap_with(make, teacher, held_out) for name, make in CONTENTS.items()
        },
        "memory_loss_before_the_first_step": memory_losses(teacher, train, held_out),
    }
    write_result(arguments.out, figures, MEASURES)
    for name in ("ap_of_the_teachers_own_boxes", "memory_loss_before_the_first_step"):
        print(name, figures[name])


def _chosen(teacher: Model, memory: Memory) -> Tensor:
    del teacher
    return memory.own.content


def _of_place(teacher: Model, memory: Memory) -> Tensor:
    return teacher.place_content(memory, memory.own.boxes)


def _mean_of_classes(teacher: Model, memory: Memory) -> Tensor:
    boxes = memory.own.boxes
    labels = torch.arange(teacher.num_classes).expand(len(boxes), -1)
    embedded = teacher.label_content(labels, boxes)
    return embedded.mean(1, keepdim=True).expand(-1, boxes.shape[1], -1)


CONTENTS: Mapping[str, Callable[[Model, Memory], Tensor]] = {
    "chosen": _chosen,
    "of_place": _of_place,
    "mean_of_classes": _mean_of_classes,
}


@torch.no_grad()
def ap_with(make: Callable[[Model, Memory], Tensor], teacher: Model, held_out: Dataset) -> float:
    """Return the teacher's AP when it decodes its own boxes with some content."""
    inputs, found = NetworkInputs(held_out, teacher.spec), []
    for start in range(0, FRAMES, BATCH):
        items = [inputs[index] for index in range(start, min(start + BATCH, FRAMES))]
        images = torch.stack([inputs.normalised(item.pixels) for item in items])
        memory = cast("Memory", teacher.encode(images))
        queries = Queries(make(teacher, memory), memory.own.boxes, memory.own.valid)
        outputs = teacher.decode(memory, queries)
        found += [
            postprocess(logits.numpy(), boxes.numpy(), item.place, teacher.spec, 0.0)
            for logits, boxes, item in zip(
                outputs.logits[-1], outputs.boxes[-1], items, strict=True
            )
        ]
    return coco_ap(held_out.truths[:FRAMES], found, teacher.spec.class_names).ap


def memory_losses(teacher: Model, train: Dataset, held_out: Dataset) -> dict[str, Any]:
    """Return the memory loss of fresh and of inheriting students, means over the seeds."""
    fit, test = (
        TrainingInputs(NetworkInputs(some, teacher.spec), "flip", 0) for some in (train, held_out)
    )
    found: dict[str, dict[str, float]] = {}
    for start in ("from_scratch", "inheriting"):
        pairs = [_memory_loss(teacher, fit, test, seed, start) for seed in SEEDS]
        found[start] = {
            name: mean(values)
            for name, values in zip(
                ("random_adapters", "fitted_adapters"), zip(*pairs, strict=True), strict=True
            )
        }
    return found


@torch.no_grad()
def _memory_loss(
    teacher: Model, fit: TrainingInputs, test: TrainingInputs, seed: int, start: str
) -> tuple[float, float]:
    """Return one student's memory loss with random and with fitted adapters."""
    torch.manual_seed(seed)
    student = new_model(teacher.family, PRESET, teacher.spec)
    if start == "inheriting":
        inherit(student, teacher)
    config = MethodConfig("clock", 1.0, 0.0, method("clock").Settings())
    memory = TeacherMemory(teacher)
    trainee = Trainee(student, distillation_of([config], student, teacher), memory).train()
    before = _loss(trainee, memory, test)
    fit_adapters(trainee, first_batches(fit, BATCH, torch.device("cpu")))
    return before, _loss(trainee, memory, test)


def _loss(trainee: Trainee, memory: TeacherMemory, test: TrainingInputs) -> float:
    """Return the memory loss on the held-out frames, with batch norms as in training."""
    clock, losses = trainee.distillation.methods["clock"], []
    for start in range(0, FRAMES, BATCH):
        items = [test[0, index] for index in range(start, start + BATCH)]
        images, targets = torch.stack([image for image, _ in items]), [truth for _, truth in items]
        batch = Batch(images, targets, trainee.encode(images), memory(images))
        losses.append(float(clock(batch)["lcmd"].item()))
    return mean(losses)


if __name__ == "__main__":
    main()
