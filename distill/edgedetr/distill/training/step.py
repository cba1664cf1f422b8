"""One step of the training: forward, backward and update, in the precision and passes of a run."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from edgedetr.distill.networks.finite import NotFiniteError
from edgedetr.distill.networks.whole_batch import part_of
from edgedetr.distill.training.batch_parts import PassSums, parts_of, without_views

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    from edgedetr.distill.networks.whole_batch import Part
    from edgedetr.distill.optimizer_config import OptimizerConfig
    from edgedetr.distill.step_config import StepConfig
    from edgedetr.distill.training.processes import Processes
    from edgedetr.distill.training.run_state import RunState
    from edgedetr.distill.types import Losses, Targets

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Pass(NamedTuple):
    """The images that are taken at once.

    Attributes:
        images: The student's input.
        targets: Their truth.
        part: Which part of the batch they are; None for all of it.
    """

    images: Tensor
    targets: list[Targets]
    part: Part | None


def scaler_of(config: StepConfig, device: torch.device) -> torch.amp.GradScaler:
    """Return what scales the loss in FP16, and does nothing otherwise."""
    return torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")


class DivergedError(NotFiniteError):
    """A loss or a gradient is NaN or infinite."""


@dataclass(frozen=True, eq=False)
class TrainingStep:
    """Takes the steps of a run.

    Attributes:
        processes: The processes of the run.
        prepared: The trainee, as the accelerator has prepared it.
        state: What changes from step to step.
        config: Precision and passes.
        rates: The learning rate over the run, and the largest norm of the gradient.
    """

    processes: Processes
    prepared: nn.Module
    state: RunState
    config: StepConfig
    rates: OptimizerConfig

    def take(
        self, images: Tensor, targets: list[Targets], everyone: list[list[Targets]], seed: int
    ) -> dict[str, float]:
        """Take one optimizer step; return the summed and the single terms of the whole batch.

        The processes read their devices once beside what the losses read: terms and gradient
        together, before the weights change.

        Args:
            images: This process's images of the batch.
            targets: Their truth.
            everyone: The truth of the images of each process.
            seed: Of every random number of the step.

        Raises:
            NotFiniteError: If an output of the student, a loss or the gradient is not finite.
        """
        optimizer, scaler = self.state.optimizer, self.state.scaler
        passes = self._passes(images, targets, everyone)
        self._note_sums(passes, seed)
        optimizer.zero_grad(set_to_none=True)
        names: list[str] = []
        values: list[Tensor] = []
        for index, one in enumerate(passes):
            names, found = self._trained(one, seed, is_last=index + 1 == len(passes))
            values.append(found)
        scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = self.processes.clipped(parameters, self.rates.clip_norm)
        terms = self._checked(names, values, norm)
        scaler.step(optimizer)
        scaler.update()
        self.state.average.update(self.state.trainee.network)
        return terms

    def _passes(
        self, images: Tensor, targets: list[Targets], everyone: list[list[Targets]]
    ) -> list[Pass]:
        device, count = self.processes.accelerator.device, self.config.accumulate
        if count == 1 and self.processes.sums is None:
            return [Pass(images.to(device), [t.to(device) for t in targets], None)]
        sums = PassSums(self.processes.sums) if count > 1 else self.processes.sums
        assert sums is not None  # noqa: S101 - there are several passes or processes
        known = [without_views(some, device) for some in everyone]
        return [
            Pass(images[rows].to(device), [targets[i].to(device) for i in rows], part)
            for rows, part in parts_of(known, self.processes.share.index, count, sums)
        ]

    def _note_sums(self, passes: Sequence[Pass], seed: int) -> None:
        """Let every pass note what it asks of the whole batch; the trainee stays as it is.

        Losses that ask for nothing are told by the first pass, and the others are spared it.
        """
        sums = passes[0].part.sums if passes[0].part else None
        if not isinstance(sums, PassSums):
            return
        buffers = dict(self.state.trainee.named_buffers())
        before = {name: buffer.clone() for name, buffer in buffers.items()}
        with torch.no_grad():
            for images, targets, part in passes:
                sums.begin()
                with part_of(part), self._autocast():
                    torch.manual_seed(seed)
                    self.state.trainee(images, targets)
                for name, buffer in buffers.items():
                    buffer.copy_(before[name])
                if not sums.is_asked:
                    break

    def _trained(self, one: Pass, seed: int, *, is_last: bool) -> tuple[list[str], Tensor]:
        """Run a pass forward and backward; return the names and the values of its terms."""
        accelerator = self.processes.accelerator
        with part_of(one.part), nullcontext() if is_last else accelerator.no_sync(self.prepared):
            if one.part and isinstance(one.part.sums, PassSums):
                one.part.sums.begin_with_sums()
            torch.manual_seed(seed)
            with self._autocast():
                detection, distillation = self.prepared(one.images, one.targets)
            names, values = _named(detection, distillation)
            loss = values.sum()
            if self.processes.share.count > 1:  # gradients are averaged over processes
                loss = loss * self.processes.share.count
            accelerator.backward(self.state.scaler.scale(loss))
        return names, values.detach()

    def _checked(self, names: list[str], passes: list[Tensor], norm: Tensor) -> dict[str, float]:
        """Read the terms and the norm of the gradient; add up the terms and name them.

        A gradient that overflows FP16 is left out by the scaler, which lowers its scale.
        """
        values = passes[0] if len(passes) == 1 else torch.stack(passes).sum(0)
        if self.processes.sums is not None:
            values = self.processes.sums.total(values)
        *read, size = torch.cat([values, norm.detach().to(values)[None]]).cpu().tolist()
        sums: dict[str, float] = defaultdict(float)
        for name, value in zip(names, read, strict=True):
            sums[name] += value
        if not math.isfinite(sum(read)):
            raise DivergedError(", ".join(k for k, v in sums.items() if not math.isfinite(v)))
        scaler = self.state.scaler
        if not math.isfinite(size) and not (scaler.is_enabled() and scaler.get_scale() > 1):
            raise DivergedError("gradient")
        return {"loss": sum(read), **sums}

    def _autocast(self) -> AbstractContextManager[object]:
        """Let networks compute in the run's precision.

        Weights are cast anew each time: one that was cast without gradient would be kept so.
        """
        kind = TYPES[self.config.precision]
        device = self.processes.accelerator.device.type
        return torch.autocast(device, kind, enabled=kind is not torch.float32, cache_enabled=False)


def _named(detection: Losses, distillation: dict[str, Tensor]) -> tuple[list[str], Tensor]:
    """Name the terms as the log does; return their values, (n,)."""
    names = [*(term.log_name for term in detection), *distillation]
    return names, torch.stack([*detection.values(), *distillation.values()])
