"""The training loop: steps, states to resume from, and evaluations."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import torch
from tqdm import tqdm

from edgedetr.distill.networks.finite import NotFiniteError
from edgedetr.distill.training.loader import one_line_of_workers
from edgedetr.distill.training.optimizer import learning_rate_factor, set_learning_rate
from edgedetr.distill.training.preemption import noted_sigterm
from edgedetr.distill.training.preflight import capped_warmup
from edgedetr.distill.training.run_folder import STATE, keep_older_states
from edgedetr.distill.training.run_log import RunLog
from edgedetr.distill.training.run_state import Progress
from edgedetr.runtime.errors import EdgeDetrError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from accelerate import Accelerator
    from torch import Tensor, nn

    from edgedetr.distill.model import Model
    from edgedetr.distill.optimizer_config import OptimizerConfig, ScheduleConfig
    from edgedetr.distill.training.best_student import BestStudent
    from edgedetr.distill.training.loader import TrainingLoader
    from edgedetr.distill.training.network_inputs import NetworkInputs
    from edgedetr.distill.training.run_log import Watcher
    from edgedetr.distill.training.run_state import RunState
    from edgedetr.distill.types import Losses, Targets


@dataclass(frozen=True, eq=False)
class TrainingLoop:
    """The epochs of a run.

    Attributes:
        out: Folder of the run.
        schedule: How many epochs, and when the student is evaluated.
        optimizer_config: The learning rate over the run, and the largest norm of a gradient.
        accelerator: Holds the device.
        prepared: The trainee, as the accelerator has prepared it.
        state: What changes from step to step.
        averaged: The student with the moving average of its weights: what is evaluated.
        validation: The validation split at network size.
        evaluate: Measures a model on it.
        best: Keeps the best student, and ends a run that gets no better.
        watchers: Follow the run beside its log.
    """

    out: Path
    schedule: ScheduleConfig
    optimizer_config: OptimizerConfig
    accelerator: Accelerator
    prepared: nn.Module
    state: RunState
    averaged: Model
    validation: NetworkInputs
    evaluate: Callable[[Model, NetworkInputs], dict[str, float]]
    best: BestStudent
    watchers: Sequence[Watcher] = ()

    @property
    def state_path(self) -> Path:
        """Where the newest state lies."""
        return self.out / STATE

    def train(self, loader: TrainingLoader) -> dict[str, float]:
        """Run the epochs that are left; return the last evaluation, the time and the memory.

        Raises:
            EdgeDetrError: If the loss, a gradient or an output of the student is not finite.
            DataError: If an image cannot be read.
        """
        schedule, steps = self.schedule, len(loader)
        done = self.state.load(self.state_path) if self.state_path.is_file() else Progress(0)
        started, total = time.perf_counter(), schedule.epochs * steps
        device = self.accelerator.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        metrics: dict[str, float] = {}
        self._read(loader)
        rates = capped_warmup(total, self.optimizer_config)
        self.prepared.train()
        with (
            one_line_of_workers(),
            closing(RunLog(self.out, done.epochs, steps, done.steps, self.watchers)) as log,
            tqdm(
                total=total, initial=done.epochs * steps + done.steps, unit="step", disable=None
            ) as bar,
        ):
            last = done.epochs - 1
            if done.epochs and schedule.is_evaluated(last) and last not in log.evaluations:
                metrics = self._evaluate(last, steps, log) if not done.steps else {}
            for epoch in range(done.epochs, schedule.epochs):
                if self.best.is_over(log.evaluations):
                    break
                self._epoch(loader, done, epoch, rates, log, bar)
                if schedule.is_evaluated(epoch):
                    metrics = self._evaluate(epoch, steps, log)
            metrics = self.best.take_up(self.averaged, log.evaluations) or metrics
        metrics = metrics or self._measure()
        metrics |= {"seconds": time.perf_counter() - started}
        if device.type == "cuda":
            metrics["peak_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
        return metrics

    def _epoch(
        self,
        loader: TrainingLoader,
        done: Progress,
        epoch: int,
        rates: OptimizerConfig,
        log: RunLog,
        bar: tqdm[NoReturn],
    ) -> None:
        """Take the steps of an epoch that are left, and write states."""
        steps, every = len(loader), self.schedule.save_every_steps
        skipped = done.steps if epoch == done.epochs else 0
        with noted_sigterm() as preemption:
            for step, batch in enumerate(loader.batches(epoch, skipped), epoch * steps + skipped):
                begun = time.perf_counter()
                terms = self._step(*batch, step, self.schedule.epochs * steps, rates)
                log.step(step, epoch, terms | {"seconds": time.perf_counter() - begun})
                bar.set_postfix(loss=f"{terms['loss']:.2f}", refresh=False)
                bar.update()
                is_last = step + 1 == (epoch + 1) * steps
                is_due = every > 0 and (step + 1) % every == 0
                if is_last or is_due or preemption.came:
                    self._save(Progress(*divmod(step + 1, steps)))
                if preemption.came:
                    tqdm.write(f"{self.state_path}: written at SIGTERM, after step {step + 1}")
                    preemption.act()

    def _save(self, done: Progress) -> None:
        if self.state.trainee.teacher_memory is not None:
            self.state.trainee.teacher_memory.flush()
        if self.accelerator.is_main_process:
            keep_older_states(self.out, self.schedule.keep_states - 1)
            self.state.save(self.state_path, done)

    def _read(self, loader: TrainingLoader) -> None:
        """Read what memory can hold, and each validation image once: a bad one is found at once."""
        loader.data.read()
        self.validation.check()
        memory = self.state.trainee.teacher_memory
        if memory is not None and loader.only_mirrors:
            batches = loader.data.mirrored_too(self.schedule.batch_size)
            memory.fill(batches, 2 * len(loader.data))

    def _step(
        self,
        images: Tensor,
        targets: list[Targets],
        step: int,
        steps: int,
        rates: OptimizerConfig,
    ) -> dict[str, float]:
        """Take one optimizer step; return the summed and the single terms."""
        torch.manual_seed(self.schedule.seed * 1_000_003 + step)
        optimizer = self.state.optimizer
        factor = learning_rate_factor(step, steps, rates)
        set_learning_rate(optimizer, factor)
        device = self.accelerator.device
        moved = [t.to(device) for t in targets]
        try:
            detection, distillation = self.prepared(images.to(device), moved)
        except NotFiniteError as error:
            raise self._diverged(step, error.names, targets) from error
        loss = torch.stack([*detection.values(), *distillation.values()]).sum()
        terms = _summary(detection, distillation)
        if not math.isfinite(terms["loss"]):
            wrong = [k for k, v in terms.items() if not math.isfinite(v) and k != "loss"]
            raise self._diverged(step, ", ".join(wrong), targets)
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = self.accelerator.clip_grad_norm_(parameters, rates.clip_norm)
        if not torch.isfinite(norm):
            raise self._diverged(step, "gradient", targets)
        optimizer.step()
        self.state.average.update(self.state.trainee.network)
        unlabelled = sum(not t.labelled for t in targets)
        terms |= {"unlabelled": float(unlabelled)} if unlabelled else {}
        return terms | {"lr": rates.learning_rate * factor}

    def _diverged(self, step: int, what: str, targets: list[Targets]) -> EdgeDetrError:
        kept = f"the last state is {self.state_path}; " * self.state_path.is_file()
        return EdgeDetrError(
            f"step {step}: the loss is not finite ({what}) on frames "
            f"{', '.join(t.frame_id for t in targets)}; {kept}lower optimizer.learning_rate"
        )

    def _evaluate(self, epoch: int, steps_per_epoch: int, log: RunLog) -> dict[str, float]:
        """Evaluate the student after an epoch; log the figures and print them."""
        metrics = self._measure()
        if self.accelerator.is_main_process:
            self.best.take(self.averaged, metrics, log.evaluations)
        log.evaluation((epoch + 1) * steps_per_epoch, epoch, metrics)
        tqdm.write(f"epoch {epoch + 1}: AP {metrics['ap']:.3f}, AP50 {metrics['ap50']:.3f}")
        return metrics

    def _measure(self) -> dict[str, float]:
        try:
            return self.evaluate(self.averaged, self.validation)
        except NotFiniteError as error:
            raise EdgeDetrError(
                f"the student's {error.names} are not finite on the validation split; lower "
                "optimizer.learning_rate"
            ) from error


def _summary(detection: Losses, distillation: dict[str, Tensor]) -> dict[str, float]:
    """Name the terms as the log does, and sum everything to ``loss``."""
    sums: dict[str, float] = defaultdict(float)
    names = [*(term.log_name for term in detection), *distillation]
    values = torch.stack([*detection.values(), *distillation.values()]).detach().cpu().tolist()
    for name, value in zip(names, values, strict=True):
        sums[name] += value
    return {"loss": sum(values), **sums}
