"""The training loop: steps, states to resume from, and evaluations."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NoReturn

import torch
from tqdm import tqdm

from edgedetr.distill.networks.finite import NotFiniteError
from edgedetr.distill.training.batch_parts import without_views
from edgedetr.distill.training.loader import one_line_of_workers
from edgedetr.distill.training.optimizer import learning_rate_factor, set_learning_rate
from edgedetr.distill.training.preemption import noted_sigterm
from edgedetr.distill.training.preflight import capped_warmup
from edgedetr.distill.training.run_folder import STATE, keep_older_states
from edgedetr.distill.training.run_log import RunLog
from edgedetr.distill.training.run_state import Progress
from edgedetr.distill.training.silent_log import SilentLog
from edgedetr.runtime.errors import EdgeDetrError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from edgedetr.distill.model import Model
    from edgedetr.distill.optimizer_config import OptimizerConfig, ScheduleConfig
    from edgedetr.distill.training.best_student import BestStudent
    from edgedetr.distill.training.loader import TrainingLoader
    from edgedetr.distill.training.network_inputs import NetworkInputs
    from edgedetr.distill.training.processes import Processes
    from edgedetr.distill.training.run_log import Watcher
    from edgedetr.distill.training.run_state import RunState
    from edgedetr.distill.training.step import TrainingStep
    from edgedetr.distill.types import Targets


@dataclass(frozen=True, eq=False)
class SharedBatch:
    """What one process has of a batch, and what it knows of the others.

    Attributes:
        images: Its images.
        targets: Their truth.
        everyone: The truth of the images of each process.
    """

    images: Tensor
    targets: list[Targets]
    everyone: list[list[Targets]]


@dataclass(frozen=True, eq=False)
class TrainingLoop:
    """The epochs of a run.

    Attributes:
        out: Folder of the run.
        schedule: How many epochs, and when the student is evaluated.
        step: Takes a step.
        averaged: The student with the moving average of its weights: what is evaluated.
        validation: The validation split at network size.
        evaluate: Measures a model on it.
        best: Keeps the best student, and ends a run that gets no better.
        watchers: Follow the run beside its log.
    """

    out: Path
    schedule: ScheduleConfig
    step: TrainingStep
    averaged: Model
    validation: NetworkInputs
    evaluate: Callable[[Model, NetworkInputs], dict[str, float]]
    best: BestStudent
    watchers: Sequence[Watcher] = ()

    @property
    def processes(self) -> Processes:
        """The processes of the run."""
        return self.step.processes

    @property
    def state(self) -> RunState:
        """What changes from step to step."""
        return self.step.state

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
        resumes = self.processes.from_main(self.state_path.is_file)
        done = self.state.load(self.state_path) if resumes else Progress(0)
        started, total = time.perf_counter(), schedule.epochs * steps
        device = self.processes.accelerator.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        metrics: dict[str, float] = {}
        self._read(loader)
        rates = capped_warmup(total, self.step.rates)
        self.step.prepared.train()
        with (
            one_line_of_workers(),
            closing(self._log(done, steps)) as log,
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
            best = self.processes.from_main(
                lambda: self.best.take_up(self.averaged, log.evaluations)
            )
            metrics = best or metrics
        metrics = metrics or self._measure()
        metrics |= {"seconds": time.perf_counter() - started}
        if device.type == "cuda":
            metrics["peak_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
        return metrics

    def _log(self, done: Progress, steps: int) -> RunLog | SilentLog:
        """Return the run's log; only the first process writes one."""
        own: list[RunLog] = []

        def opened() -> dict[int, dict[str, float]]:
            own.append(RunLog(self.out, done.epochs, steps, done.steps, self.watchers))
            return own[0].evaluations

        evaluations = self.processes.from_main(opened)
        return own[0] if own else SilentLog(evaluations)

    def _epoch(
        self,
        loader: TrainingLoader,
        done: Progress,
        epoch: int,
        rates: OptimizerConfig,
        log: RunLog | SilentLog,
        bar: tqdm[NoReturn],
    ) -> None:
        """Take the steps of an epoch that are left, and write states."""
        steps, every = len(loader), self.schedule.save_every_steps
        skipped = done.steps if epoch == done.epochs else 0
        with noted_sigterm() as preemption:
            batches = self._together(loader, loader.batches(epoch, skipped))
            for step, batch in enumerate(batches, epoch * steps + skipped):
                note = partial(self._note, log, bar, step, epoch)
                self._step(batch, step, self.schedule.epochs * steps, rates, note)
                bar.update()
                is_last = step + 1 == (epoch + 1) * steps
                is_due = every > 0 and (step + 1) % every == 0
                is_ended = any(self.processes.every(preemption.came))
                if not (is_last or is_due or is_ended):
                    continue
                self.step.reads.rest()  # a state holds no step that diverged
                self._save(Progress(*divmod(step + 1, steps)))
                if any(self.processes.every(preemption.came)):  # it may have come meanwhile
                    tqdm.write(f"{self.state_path}: written at SIGTERM, after step {step + 1}")
                    preemption.act()

    @staticmethod
    def _note(
        log: RunLog | SilentLog,
        bar: tqdm[NoReturn],
        step: int,
        epoch: int,
        terms: dict[str, float],
    ) -> None:
        log.step(step, epoch, terms)
        bar.set_postfix(loss=f"{terms['loss']:.2f}", refresh=False)

    def _save(self, done: Progress) -> None:
        memory = self.state.trainee.teacher_memory
        if memory is not None and memory.store is not None:
            self.processes.every_of(memory.flush)  # a state comes with the answers it was made of

        tensors = self.state.tensors()

        def write() -> None:
            keep_older_states(self.out, self.schedule.keep_states - 1)
            self.state.save(self.state_path, done, tensors)

        self.processes.from_main(write)

    def _read(self, loader: TrainingLoader) -> None:
        """Read what memory can hold, and each validation image once: a bad one is found at once."""
        loader.data.read()
        self.validation.check()
        memory = self.state.trainee.teacher_memory
        if memory is not None and loader.only_mirrors:
            batches = loader.data.mirrored_too(self.schedule.batch_size)
            memory.fill(batches, 2 * len(loader.data))

    def _together(
        self, loader: TrainingLoader, batches: Iterator[tuple[Tensor, list[Targets]]]
    ) -> Iterator[SharedBatch]:
        """Give this process's share of each batch, once every process has its own.

        What one of them cannot load ends all of them; what one of them skips is noted in all.
        """
        if self.processes.share.count == 1:
            for images, targets in batches:
                yield SharedBatch(images, targets, [targets])
            return
        own: list[tuple[Tensor, list[Targets]] | None] = [None]

        def loaded() -> tuple[list[Targets], tuple[str, ...]]:
            own[0] = batch = next(batches, None)
            known = without_views(batch[1], torch.device("cpu")) if batch else []
            return known, tuple(loader.skipped)

        while True:
            everyone = self.processes.every_of(loaded)
            loader.note(chain.from_iterable(skipped for _, skipped in everyone))
            if own[0] is None:
                return
            yield SharedBatch(*own[0], [targets for targets, _ in everyone])

    def _step(
        self,
        batch: SharedBatch,
        step: int,
        steps: int,
        rates: OptimizerConfig,
        note: Callable[[dict[str, float]], None],
    ) -> None:
        """Take one optimizer step; its terms are noted, with its time, once they are read."""
        begun = time.perf_counter()
        factor = learning_rate_factor(step, steps, rates)
        set_learning_rate(self.state.optimizer, factor)
        seed = self.schedule.seed * 1_000_003 + step
        unlabelled = sum(not t.labelled for some in batch.everyone for t in some)
        known = {"unlabelled": float(unlabelled)} if unlabelled else {}
        known |= {"lr": rates.learning_rate * factor}
        frames = [t.frame_id for t in batch.targets]

        def noted(read: Callable[[], dict[str, float]]) -> None:
            try:
                terms = read()
            except NotFiniteError as error:
                raise self._diverged(step, error.names, frames) from error
            known.setdefault("seconds", time.perf_counter() - begun)
            note(terms | known)

        try:
            self.step.take(batch.images, batch.targets, batch.everyone, seed, noted)
        except NotFiniteError as error:
            raise self._diverged(step, error.names, frames) from error
        known.setdefault("seconds", time.perf_counter() - begun)

    def _diverged(self, step: int, what: str, frames: Sequence[str]) -> EdgeDetrError:
        kept = f"the last state is {self.state_path}; " * self.state_path.is_file()
        return EdgeDetrError(
            f"step {step}: the loss is not finite ({what}) on frames "
            f"{', '.join(frames)}; {kept}lower optimizer.learning_rate"
        )

    def _evaluate(
        self, epoch: int, steps_per_epoch: int, log: RunLog | SilentLog
    ) -> dict[str, float]:
        """Evaluate the student after an epoch; log the figures and print them."""
        metrics = self._measure()
        if self.processes.is_main:
            self.best.take(self.averaged, metrics, log.evaluations)
        log.evaluation((epoch + 1) * steps_per_epoch, epoch, metrics)
        tqdm.write(f"epoch {epoch + 1}: AP {metrics['ap']:.3f}, AP50 {metrics['ap50']:.3f}")
        return metrics

    def _measure(self) -> dict[str, float]:
        self.state.average.gather()
        try:
            return self.evaluate(self.averaged, self.validation)
        except NotFiniteError as error:
            raise EdgeDetrError(
                f"the student's {error.names} are not finite on the validation split; lower "
                "optimizer.learning_rate"
            ) from error
