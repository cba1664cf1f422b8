"""One step of the training: forward, backward and update, in the precision and passes of a run."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from edgedetr.distill.networks.device_reads import DeviceReads, reads_together
from edgedetr.distill.networks.finite import NotFiniteError
from edgedetr.distill.networks.whole_batch import part_of
from edgedetr.distill.training.augment import augmented_on_device
from edgedetr.distill.training.batch_parts import PassSums, parts_of, without_views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from edgedetr.distill.networks.whole_batch import Part
    from edgedetr.distill.optimizer_config import OptimizerConfig
    from edgedetr.distill.step_config import StepConfig
    from edgedetr.distill.training.processes import Processes
    from edgedetr.distill.training.run_state import RunState
    from edgedetr.distill.types import Losses, Targets

    Noted = Callable[[Callable[[], dict[str, float]]], None]
    """Is given what returns the terms of a step once they are read, or raises `DivergedError`."""

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
        reads: What waits to be read from the device.
    """

    processes: Processes
    prepared: nn.Module
    state: RunState
    config: StepConfig
    rates: OptimizerConfig
    reads: DeviceReads = field(default_factory=DeviceReads)

    def take(
        self,
        images: Tensor,
        targets: list[Targets],
        everyone: list[list[Targets]],
        seed: int,
        noted: Noted,
    ) -> None:
        """Take one optimizer step.

        Its terms and its gradient are read together with what the losses of the next step read, or
        at the end of that where they read nothing; `DeviceReads.rest` reads them before. In FP16
        the scale of the loss depends on them: they are read before the weights change.

        Args:
            images: This process's images of the batch.
            targets: Their truth.
            everyone: The truth of the images of each process.
            seed: Of every random number of the step.
            noted: Takes the summed and the single terms of the whole batch.

        Raises:
            NotFiniteError: If an output of the student is not finite.
        """
        with reads_together(self.reads):
            self._take(self._passes(images, targets, everyone), seed, noted)

    def _take(self, passes: Sequence[Pass], seed: int, noted: Noted) -> None:
        optimizer, scaler = self.state.optimizer, self.state.scaler
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
        self.reads.rest()
        self.reads.later(self._packed(values, norm), partial(self._read, names, noted))
        if scaler.is_enabled():
            self.reads.rest()
        scaler.step(optimizer)
        scaler.update()
        self.state.average.update(self.state.trainee.network)

    def _passes(
        self, images: Tensor, targets: list[Targets], everyone: list[list[Targets]]
    ) -> list[Pass]:
        device, count = self.processes.accelerator.device, self.config.accumulate
        if count == 1 and self.processes.sums is None:
            return [self._pass(images, targets, None)]
        sums = PassSums(self.processes.sums) if count > 1 else self.processes.sums
        assert sums is not None  # noqa: S101 - there are several passes or processes
        known = [without_views(some, device) for some in everyone]
        return [
            self._pass(images[rows], [targets[i] for i in rows], part)
            for rows, part in parts_of(known, self.processes.share.index, count, sums)
        ]

    def _pass(self, images: Tensor, targets: list[Targets], part: Part | None) -> Pass:
        device = self.processes.accelerator.device
        pixels = augmented_on_device(images.to(device), targets)
        return Pass(pixels, [t.to(device) for t in targets], part)

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

    def _packed(self, passes: list[Tensor], norm: Tensor) -> Tensor:
        """Return the terms of the whole batch, and behind them the norm of the gradient."""
        values = passes[0] if len(passes) == 1 else torch.stack(passes).sum(0)
        if self.processes.sums is not None:
            values = self.processes.sums.total(values)
        return torch.cat([values, norm.detach().to(values)[None]])

    def _read(self, names: list[str], noted: Noted, values: NDArray[np.float32]) -> None:
        noted(partial(self._checked, names, values.tolist()))

    def _checked(self, names: list[str], values: list[float]) -> dict[str, float]:
        """Add up the terms and name them.

        A gradient that overflows FP16 is left out by the scaler, which lowers its scale.

        Args:
            names: Of the terms.
            values: The terms, and behind them the norm of the gradient.

        Raises:
            DivergedError: If one of them is not finite.
        """
        *read, size = values
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
