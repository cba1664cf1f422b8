"""Measure what each method adds to a training step, over a student's step and a teacher's forward.

    python benchmarks/method_step.py --out benchmarks/results/method_step.json

What is measured on one pair of models is timed in turn, round after round, so that a busy machine
slows all of it alike; a ratio is the median over the rounds. Memory is the peak of a process of its
own that takes three steps, less that of one whose student trains alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from edgedetr.bench.result_file import write_result
from edgedetr.distill.config import MethodConfig
from edgedetr.distill.methods import method
from edgedetr.distill.model import Model, new_model
from edgedetr.distill.training.distillation_model import Trainee
from edgedetr.distill.training.objective import distillation_of
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Targets
from edgedetr.runtime.spec import ModelSpec
from peers.rows import in_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

SPEC = ModelSpec(input_hw=(96, 320), class_names=("Car", "Pedestrian", "Cyclist"))
BATCH = 16
OBJECTS = 5

LIMITS = {"clock": 1.15, "kd_detr": 1.15, "g_detkd": 1.35, "drkd": 1.35, "fgd": None}
"""The methods that are measured, and the largest ratio that is wanted."""

FAMILY = {"clock": "d_fine", "kd_detr": "d_fine"}
"""Family of student and teacher; the other methods' papers have two-stage detectors."""

MEASURES = (
    "distill/edgedetr/distill/training/objective.py",
    "distill/edgedetr/distill/methods",
    "distill/edgedetr/distill/training/teacher_cache.py",
)
"""What makes these figures: once it changes, they are stale."""


def main() -> None:
    """Time the methods and write their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--methods", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--peak-of", metavar="METHOD", help=argparse.SUPPRESS)
    parser.add_argument("--family", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        print(peak_mib(arguments.family, arguments.peak_of))
        return
    if not arguments.out:
        parser.error("name a file for the figures with --out")
    by_family: dict[str, list[str]] = {}
    for name in arguments.methods:
        by_family.setdefault(FAMILY.get(name, "faster_rcnn"), []).append(name)
    found: dict[str, dict[str, Any]] = {}
    for family, names in by_family.items():
        found |= steps_of(family, names, arguments.rounds)
        alone = peak_of(family, "none")
        for name in names:
            found[name]["memory_mib"] = peak_of(family, name) - alone
    report = {
        "methods": found,
        "batch": BATCH,
        "input_hw": SPEC.input_hw,
        "rounds": arguments.rounds,
    }
    write_result(arguments.out, report, MEASURES)
    print("step with the method / (student's step + teacher's forward)")
    for name, step in found.items():
        wanted = step["wanted_at_most"]
        print(f"{name} {step['ratio']:.3f}" + (f", wanted at most {wanted}" if wanted else ""))


def steps_of(family: str, names: Sequence[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Time the steps of some methods on one family, in turn; median milliseconds and ratio."""
    student, teacher, images, targets = _material(family)
    trainees = {name: _trainee(name, student, teacher) for name in names}
    alone = _trainee("none", student, teacher)
    times = in_turns(
        {
            "student": lambda: _step(alone, images, targets),
            "teacher": lambda: _forward(teacher, images),
            **{n: lambda t=t: _step(t, images, targets) for n, t in trainees.items()},  # type: ignore[misc]
        },
        rounds,
    )
    base = [s + t for s, t in zip(times["student"], times["teacher"], strict=True)]
    return {
        name: {
            "student_step_ms": median(times["student"]),
            "teacher_forward_ms": median(times["teacher"]),
            "method_step_ms": median(times[name]),
            "ratio": median(m / b for m, b in zip(times[name], base, strict=True)),
            "wanted_at_most": LIMITS[name],
            "student": f"{family}/edge-tiny",
            "teacher": f"{family}/edge-small",
        }
        for name in names
    }


def peak_of(family: str, name: str) -> float:
    """Return the peak memory in MiB of a process that trains by a method."""
    command = [sys.executable, __file__, "--peak-of", name, "--family", family]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)


def peak_mib(family: str, name: str) -> float:
    """Train for three steps; return the peak memory in MiB of this process."""
    student, teacher, images, targets = _material(family)
    trainee = _trainee(name, student, teacher)
    for _ in range(3):
        _step(trainee, images, targets)
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # getrusage counts the parent's
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


def _material(family: str) -> tuple[Model, Model, torch.Tensor, list[Targets]]:
    torch.manual_seed(0)
    student, teacher = (new_model(family, p, SPEC) for p in ("edge-tiny", "edge-small"))
    teacher.network.eval().requires_grad_(requires_grad=False)
    images = torch.rand(BATCH, 3, *SPEC.input_hw)
    return student, teacher, images, [_targets() for _ in range(BATCH)]


def _trainee(name: str, student: Model, teacher: Model) -> Trainee:
    memory = TeacherMemory(teacher) if method(name).NEEDS_TEACHER else None
    return Trainee(student, distillation_of([_config(name)], student, teacher), memory)


def _config(name: str) -> MethodConfig:
    return MethodConfig(name, 1.0, 0.0, method(name).Settings())


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
        model.predict(images.contiguous(memory_format=torch.channels_last))


if __name__ == "__main__":
    main()
