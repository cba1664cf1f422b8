"""One training step without a teacher: ours beside that of transformers' Trainer, same network.

Both take 4 images at 320x320 with 5 objects, forward, loss and backward; the losses differ in what
they hold (ours has a class loss that a data set's ignore areas mask), not in their kind.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from edgedetr.distill.model import Model, new_model
from edgedetr.distill.training.distillation_model import Trainee
from edgedetr.distill.training.objective import distillation_of
from edgedetr.distill.types import Targets
from edgedetr.runtime.spec import ModelSpec
from peers.rows import OURS, Row, as_published, missing, named, not_run, timed

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = ModelSpec((320, 320), ("Car", "Pedestrian", "Cyclist"))
BATCH, OBJECTS = 4, 5


def rows(rounds: int) -> list[Row]:
    """Compare training steps."""
    task = f"training step, D-FINE-N, {BATCH} images at 320x320"
    torch.manual_seed(0)
    model = new_model("d_fine", "nano", SPEC)
    images = torch.rand(BATCH, 3, *SPEC.input_hw)
    targets = [_targets() for _ in range(BATCH)]
    name = named("transformers", "Trainer")
    ways: dict[str, Callable[[], Any]] = {OURS: our_step(model, images, targets)}
    if why := missing("accelerate"):
        return [*timed(task, ways, {}, rounds), not_run(task, name, why)]
    with TemporaryDirectory() as folder:
        ways[name] = trainers_step(model, images, targets, folder)
        return timed(task, ways, {name: "forward, its own loss, backward"}, rounds)


def our_step(model: Model, images: torch.Tensor, targets: list[Targets]) -> Callable[[], Any]:
    """Return a step of this project's training without a method."""
    trainee = Trainee(model, distillation_of([], model, None), None)

    def step() -> None:
        trainee.train()
        trainee.zero_grad(set_to_none=True)
        detection, distillation = trainee(images, targets)
        torch.autograd.backward(torch.stack([*detection.values(), *distillation.values()]).sum())

    return step


def trainers_step(
    model: Model, images: torch.Tensor, targets: list[Targets], folder: str
) -> Callable[[], Any]:
    """Return ``Trainer.training_step`` of transformers on the same network and batch."""
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(folder, use_cpu=True, report_to=[], disable_tqdm=True)
    network = as_published(model)
    trainer: Any = Trainer(model=network, args=arguments)
    trainer.current_gradient_accumulation_steps = 1  # as its own loop sets it
    labels = [{"class_labels": t.labels, "boxes": t.boxes} for t in targets]
    batch = {"pixel_values": images, "labels": labels}

    def step() -> None:
        network.zero_grad(set_to_none=True)
        trainer.training_step(network, dict(batch))

    return step


def _targets() -> Targets:
    boxes = torch.cat([torch.rand(OBJECTS, 2) * 0.6 + 0.2, torch.rand(OBJECTS, 2) * 0.2 + 0.1], 1)
    return Targets(torch.randint(0, 3, (OBJECTS,)), boxes, torch.zeros(0, 4))
