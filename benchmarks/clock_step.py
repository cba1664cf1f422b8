"""Measure what CLoCKDistill adds to a training step, over a student's step and a teacher's forward.

    python benchmarks/clock_step.py --out benchmarks/results/clock_step.json

The three are timed in turn, round after round, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING

import torch

from edgedetr.distill.detectors import Targets
from edgedetr.distill.distillation import Distillation
from edgedetr.distill.methods import clock
from edgedetr.distill.model import Model, new_model
from edgedetr.distill.teacher_memory import TeacherMemory
from edgedetr.distill.trainee import Trainee
from edgedetr.runtime.files import write_text
from edgedetr.runtime.machine import machine_facts
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = ModelSpec(input_hw=(96, 320), class_names=("Car", "Pedestrian", "Cyclist"))
BATCH = 16
OBJECTS = 5


def main() -> None:
    """Time the three and write the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    student, teacher = (new_model("d_fine", p, SPEC) for p in ("edge-tiny", "edge-small"))
    teacher.network.eval().requires_grad_(requires_grad=False)
    images = torch.rand(BATCH, 3, *SPEC.input_hw)
    targets = [_targets() for _ in range(BATCH)]
    alone = Trainee(student, Distillation({}, {}, {}))
    methods = {"clock": clock.build(clock.Settings(), student, teacher)}
    distilled = Trainee(
        student, Distillation(methods, {"clock": 1.0}, {}), TeacherMemory(teacher, 0)
    )
    work: dict[str, Callable[[], None]] = {
        "student_step": lambda: _step(alone, images, targets),
        "teacher_forward": lambda: _forward(teacher, images),
        "clock_step": lambda: _step(distilled, images, targets),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(arguments.rounds + 2):
        for name, call in work.items():
            started = perf_counter_ns()
            call()
            if round_ >= 2:
                times[name].append((perf_counter_ns() - started) / 1e6)
    found = {f"{name}_ms": median(values) for name, values in times.items()}
    rounds = zip(times["clock_step"], times["student_step"], times["teacher_forward"], strict=True)
    ratio = median(c / (s + t) for c, s, t in rounds)
    report = {
        **found,
        "ratio": ratio,
        "wanted_at_most": 1.15,
        "batch": BATCH,
        "input_hw": SPEC.input_hw,
        "rounds": arguments.rounds,
        "student": "d_fine/edge-tiny",
        "teacher": "d_fine/edge-small",
        "machine": machine_facts(),
        "command": shlex.join(["python", *sys.argv]),
    }
    write_text(arguments.out, json.dumps(report, indent=2) + "\n")
    print(f"clock step / (student step + teacher forward) = {ratio:.3f}, wanted at most 1.15")


def _targets() -> Targets:
    boxes = torch.cat([torch.rand(OBJECTS, 2) * 0.6 + 0.2, torch.rand(OBJECTS, 2) * 0.2 + 0.1], 1)
    return Targets(torch.randint(0, 3, (OBJECTS,)), boxes, torch.zeros(0, 4))


def _step(trainee: Trainee, images: torch.Tensor, targets: list[Targets]) -> None:
    trainee.train()
    trainee.zero_grad(set_to_none=True)
    detection, distillation = trainee(images, targets)
    loss = torch.stack([*detection.values(), *distillation.values()]).sum()
    torch.autograd.backward(loss)


def _forward(model: Model, images: torch.Tensor) -> None:
    with torch.no_grad():
        model.module.predict(model.network, images)


if __name__ == "__main__":
    main()
