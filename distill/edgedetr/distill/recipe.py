"""The training run, read top to bottom."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator

from edgedetr.distill.evaluation.predict import evaluate_together
from edgedetr.distill.evaluation.worst_frames import worst_frames
from edgedetr.distill.training.adapters import first_batches, fit_adapters
from edgedetr.distill.training.answer_cache import (
    fill_cache,
    open_cache,
    read_answers,
    report_answers,
)
from edgedetr.distill.training.averaging import MovingAverage
from edgedetr.distill.training.best_student import BestStudent
from edgedetr.distill.training.distillation_model import trainee_of
from edgedetr.distill.training.loader import Loading, open_split, open_splits, training_loader
from edgedetr.distill.training.loop import TrainingLoop
from edgedetr.distill.training.models import open_models, report_inputs
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.objective import needs_teacher
from edgedetr.distill.training.optimizer import freeze_stages, optimizer_of
from edgedetr.distill.training.preflight import check_inputs, check_names
from edgedetr.distill.training.processes import processes_of_run
from edgedetr.distill.training.qat import Calibrate, quantized_student, uncalibrated
from edgedetr.distill.training.run_folder import (
    RunRecord,
    finish,
    finished_metrics,
    only_run_in,
    save_student,
)
from edgedetr.distill.training.run_identity import identity_of, settings_of
from edgedetr.distill.training.run_page import RunPage
from edgedetr.distill.training.run_state import RunState
from edgedetr.distill.training.sample_sheet import draw_samples
from edgedetr.distill.training.sampling import training_sizes
from edgedetr.distill.training.speed import set_up
from edgedetr.distill.training.step import TrainingStep, scaler_of
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.training.trackers import Tracked, require_trackers
from edgedetr.distill.training.unlabelled import least_batch
from edgedetr.distill.weights.foundation import open_foundation

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from edgedetr.distill.config import DataConfig, DistillConfig, MethodConfig, StudentConfig
    from edgedetr.distill.data import Dataset
    from edgedetr.distill.model import Model
    from edgedetr.distill.optimizer_config import OptimizerConfig, ScheduleConfig
    from edgedetr.distill.qat_config import QatConfig
    from edgedetr.distill.step_config import StepConfig
    from edgedetr.distill.teacher_config import TeacherConfig
    from edgedetr.distill.training.loader import TrainingLoader
    from edgedetr.distill.training.processes import Processes
    from edgedetr.distill.training.run_log import Watcher
    from edgedetr.runtime.types import Detections


@dataclass(frozen=True)
class Sections:
    """A config by the parts of a run: each part is given its own section.

    Attributes:
        data: Of the splits and their loading.
        student: Of the model to train.
        qat: Of what is quantized in it.
        teacher: Of its checkpoint and its names of the classes.
        objective: The distillation methods, whose losses add up.
        optimizer: Of the optimizer, the learning rate and the moving average.
        loop: Of the epochs and batches.
        step: Of how a step computes.
    """

    data: DataConfig
    student: StudentConfig
    qat: QatConfig
    teacher: TeacherConfig
    objective: tuple[MethodConfig, ...]
    optimizer: OptimizerConfig
    loop: ScheduleConfig
    step: StepConfig


def train(
    config: DistillConfig,
    out: str | os.PathLike[str],
    command: str,
    calibrate: Calibrate = uncalibrated,
    watchers: Sequence[Watcher] = (),
) -> dict[str, float]:
    """Train the student that a config describes.

    Writes ``student.safetensors`` (the moving average) with its manifest, ``metrics.json``,
    ``log.jsonl``, TensorBoard scalars and the page ``index.html`` into ``out``. While it runs,
    ``state.safetensors`` is written after each epoch, and within one as the config says and when a
    SIGTERM comes; a run that was killed resumes there with the same result, and a finished one is
    left as it is. With ``best_metric`` the student is the best that was evaluated, else the last. A
    student that is trained for INT8 computes as in INT8 all the while, and is evaluated so;
    ``quantization.json`` says where it rounds, and so does its checkpoint.

    Args:
        config: The run's settings.
        out: Folder of the run.
        command: The command that the manifest records.
        calibrate: Calibrates a student that is trained for INT8.
        watchers: Follow the run beside its log and its page.

    Returns:
        COCO AP and AP50 on the validation split (NaN where it holds no object; null in the files),
        the seconds that training took, and on a GPU the peak of its memory in MiB.

    Raises:
        UsageError: If another run is using ``out``, or the student cannot be trained so.
        ArtifactError: If ``out`` holds a run of other settings, data or weights, or a file of
            weights is missing or of another detector.
        DataError: If a label or an image is wrong.
        OSError: If the disk is full; the run can be resumed from its last state.
    """
    sections = Sections(
        data=config.data,
        student=config.student,
        qat=config.qat,
        teacher=config.teacher_config,
        objective=config.method_configs,
        optimizer=config.optimizer,
        loop=config.schedule,
        step=config.train,
    )
    validation = f"{config.data.val_split} of {config.data.root}"
    record = RunRecord(config.record(), config.weights, validation, command, config.track)
    check_names(sections.student, sections.teacher.checkpoint)
    require_trackers(record.track)
    with processes_of_run() as processes, ExitStack() as stack:
        processes.from_main(lambda: stack.enter_context(only_run_in(Path(out))) and None)
        return _train(sections, record, Path(out), calibrate, watchers, processes)


def _train(
    sections: Sections,
    record: RunRecord,
    out: Path,
    calibrate: Calibrate,
    watchers: Sequence[Watcher],
    processes: Processes,
) -> dict[str, float]:
    splits = train_split, val_split = open_splits(sections.data)
    identity = identity_of(record.settings, record.weights, *splits)
    finished = processes.from_main(lambda: finished_metrics(out, identity))
    if finished is not None:
        return finished

    taught, methods, sampling = sections.teacher, sections.objective, sections.data
    device, batch_size = processes.accelerator.device, sections.loop.batch_size
    epochs, loading = sections.loop.epochs, _loading(sections, processes)
    torch.manual_seed(sections.loop.seed)
    student, teacher = open_models(sections.student, taught, sampling.classes)
    asked = teacher if needs_teacher(methods) else None
    sizes = training_sizes(sampling, student.spec.input_hw)
    least = loading.least(least_batch(batch_size, sampling))
    check_inputs(student, asked, splits, least, sizes)
    student = quantized_student(student, sections.qat, train_split, out, calibrate)

    foundation = open_foundation(taught.foundation) if taught.foundation else None
    freeze_stages(student.network, sections.optimizer.frozen_stages)
    trainee = trainee_of(methods, student, teacher, foundation, sampling.unlabelled_score)
    rates = sections.optimizer.for_batches_of(batch_size)
    optimizer = optimizer_of(trainee, rates)
    average = MovingAverage(student.network, rates.ema_decay, rates.ema_warmup_steps)
    processes.place(trainee, average, *(m.network for m in (teacher, foundation) if m))
    set_up(student.network, teacher.network if teacher else None, sections.step)

    seen = asked.spec if asked else None
    report_inputs(student.spec, seen)
    loader = training_loader(sampling, sections.loop, train_split, student.spec, seen, loading)
    fit_adapters(trainee, first_batches(loader.data, batch_size, device))
    prepared, optimizer = processes.prepared(trainee, optimizer)
    store = open_cache(taught.cache, sampling, student.spec, asked, identity.sources)
    read_answers(store, trainee, loader, epochs, processes)
    page = RunPage(out, record.settings, record.command, epochs * len(loader))
    scaler = scaler_of(sections.step, device)
    state = RunState(trainee, average, optimizer, identity, epochs, scaler)
    loop = TrainingLoop(
        out=out,
        schedule=sections.loop,
        step=TrainingStep(processes, prepared, state, sections.step, rates),
        averaged=replace(student, network=average.module),
        validation=NetworkInputs(val_split, student.spec),
        evaluate=_evaluation(page, batch_size, processes),
        best=_best_student(out, sections.loop, record),
        watchers=(page, *_trackers(record, out), *watchers),
    )
    metrics = loop.train(loader) | _counted_frames(loader)
    report_answers(trainee.teacher_memory, loader, processes)
    if processes.is_main:
        finish(out, loop.averaged, metrics, record, identity.sources)
        page.finish()
    return metrics


def _loading(sections: Sections, processes: Processes) -> Loading:
    views, passes = sections.teacher.cache.views_in_use, sections.step.accumulate
    on_device = processes.accelerator.device.type != "cpu"
    later = sections.data.augment_on_device
    return Loading(views, processes.share, passes, stay_pixels=on_device, on_device=later)


def _evaluation(
    page: RunPage, batch_size: int, processes: Processes
) -> Callable[[Model, NetworkInputs], dict[str, float]]:
    """Return what measures a model and shows its worst frames on a page."""
    shown = partial(_show_worst, page)
    return partial(evaluate_together, batch_size=batch_size, processes=processes, seen=shown)


def _best_student(out: Path, schedule: ScheduleConfig, record: RunRecord) -> BestStudent:
    save = partial(save_student, record=record)
    return BestStudent(out, schedule.best_metric, schedule.patience, save)


def _trackers(record: RunRecord, out: Path) -> list[Tracked]:
    return [Tracked(name, out, settings_of(record.settings)) for name in record.track]


def _show_worst(page: RunPage, dataset: Dataset, found: Sequence[Detections]) -> None:
    page.show(worst_frames(dataset, found))


def _counted_frames(loader: TrainingLoader) -> dict[str, float]:
    """Count frames without labels and pictures that were skipped, where there are any."""
    counts = {
        "unlabelled_frames": float(loader.data.unlabelled),
        "skipped_pictures": float(len(loader.skipped)),
    }
    return {name: count for name, count in counts.items() if count}


def cache(config: DistillConfig, say: Callable[[str], None]) -> None:
    """Fill the cache of a config with every answer of the teacher's that its run will ask for.

    What is there already stays; a build that was killed goes on behind its last whole shard.

    Args:
        config: The run's settings, with ``teacher_cache.path``.
        say: Is given a line of what is there, needed and to be waited for, before that begins.

    Raises:
        ArtifactError: If the cache is of another teacher, other images or another augmentation, or
            the teacher or other weights are missing.
        DataError: If a label or an image is wrong.
        OSError: If the disk is full; what was written stays.
    """
    taught, sampling = config.teacher_config, config.data
    check_names(config.student, taught.checkpoint)
    splits = train_split, _ = open_splits(sampling)
    sources = identity_of(config.record(), config.weights, *splits).sources
    torch.manual_seed(config.seed)
    student, teacher = open_models(config.student, taught, sampling.classes)
    store = open_cache(taught.cache, sampling, student.spec, teacher, sources)
    assert teacher is not None  # noqa: S101 - a cache is refused without one
    report_inputs(student.spec, teacher.spec)
    teacher.network.to(Accelerator().device)
    views = Loading(taught.cache.views_in_use, on_device=sampling.augment_on_device)
    loader = training_loader(
        sampling, config.schedule, train_split, student.spec, teacher.spec, views
    )
    memory = TeacherMemory(teacher, student.spec)
    memory.store = loader.data.answers = store
    fill_cache(loader, memory, config.schedule, say)


def draw(config: DistillConfig, path: Path) -> None:
    """Draw what a run trains on first, augmented, to a PNG file; nothing is trained.

    Raises:
        DataError: If a label or an image is wrong.
    """
    split = open_split(config.data, config.data.train_split)
    draw_samples(config, split, path)
