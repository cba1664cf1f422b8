"""The training run, read top to bottom."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from edgedetr.distill.evaluation.predict import evaluate_together
from edgedetr.distill.networks.synced_norm import sync_batch_norms
from edgedetr.distill.training.adapters import first_batches, fit_adapters
from edgedetr.distill.training.averaging import MovingAverage
from edgedetr.distill.training.best_student import BestStudent
from edgedetr.distill.training.distillation_model import trainee_of
from edgedetr.distill.training.loader import open_split, open_splits, training_loader
from edgedetr.distill.training.loop import TrainingLoop
from edgedetr.distill.training.models import inherited, open_student, open_teacher, report_inputs
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.objective import needs_teacher
from edgedetr.distill.training.optimizer import freeze_stages, optimizer_of
from edgedetr.distill.training.preflight import check_inputs, check_names
from edgedetr.distill.training.processes import processes_of_run
from edgedetr.distill.training.qat import Calibrate, quantized_student, uncalibrated
from edgedetr.distill.training.run_folder import (
    STATE,
    RunRecord,
    finish,
    finished_metrics,
    only_run_in,
    save_student,
)
from edgedetr.distill.training.run_identity import identity_of
from edgedetr.distill.training.run_state import RunState
from edgedetr.distill.training.sample_sheet import draw_samples
from edgedetr.distill.training.sampling import training_sizes
from edgedetr.distill.training.speed import set_up
from edgedetr.distill.training.step import TrainingStep
from edgedetr.distill.training.unlabelled import least_batch
from edgedetr.distill.weights.foundation import open_foundation

if TYPE_CHECKING:
    import os

    from edgedetr.distill.config import (
        DataConfig,
        DistillConfig,
        MethodConfig,
        QatConfig,
        StudentConfig,
    )
    from edgedetr.distill.optimizer_config import OptimizerConfig, ScheduleConfig
    from edgedetr.distill.step_config import StepConfig
    from edgedetr.distill.teacher_config import TeacherConfig
    from edgedetr.distill.training.processes import Processes


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
    *,
    is_profiled: bool = False,
) -> dict[str, float]:
    """Train the student that a config describes.

    Writes ``student.safetensors`` (the moving average) with its manifest, ``metrics.json``,
    ``log.jsonl`` and TensorBoard scalars into ``out``. While it runs, ``state.safetensors`` is
    written after each epoch, and within one as the config says and when a SIGTERM comes; a run that
    was killed resumes there with the same result, and a finished one is left as it is. With
    ``best_metric`` the student is the best that was evaluated, else the last. A student that is
    trained for INT8 computes as in INT8 all the while, and is evaluated so; ``quantization.json``
    says where it rounds, and so does its checkpoint.

    Args:
        config: The run's settings.
        out: Folder of the run.
        command: The command that the manifest records.
        calibrate: Calibrates a student that is trained for INT8.
        is_profiled: Whether to write a trace of some steps, ``trace.json``.

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
    record = RunRecord(config.record(), config.weights, validation, command)
    with processes_of_run() as processes, ExitStack() as stack:
        processes.from_main(lambda: stack.enter_context(only_run_in(Path(out))))
        return _train(sections, record, Path(out), calibrate, processes, is_profiled=is_profiled)


def _train(
    sections: Sections,
    record: RunRecord,
    out: Path,
    calibrate: Calibrate,
    processes: Processes,
    *,
    is_profiled: bool,
) -> dict[str, float]:
    check_names(sections.student, sections.teacher.checkpoint)
    splits = train_split, val_split = open_splits(sections.data)
    identity = identity_of(record.settings, record.weights, *splits)
    finished = processes.from_main(lambda: finished_metrics(out, identity))
    if finished is not None:
        return finished

    accelerator, share, passes = processes.accelerator, processes.share, sections.step.accumulate
    batch_size, seed = sections.loop.batch_size, sections.loop.seed
    torch.manual_seed(seed)
    taught, methods, sampling = sections.teacher, sections.objective, sections.data
    student = open_student(sections.student, sampling.classes, taught.class_names)
    teacher = open_teacher(taught)
    student = inherited(student, teacher, sections.student)
    asked = teacher if needs_teacher(methods) else None
    sizes = training_sizes(sampling, student.spec.input_hw)
    least = least_batch(batch_size, sampling) // (share.count * passes)
    check_inputs(student, asked, splits, max(1, least), sizes)
    kept, resumed = out / "quantization.json", (out / STATE).is_file()
    student = quantized_student(
        student, sections.qat, train_split, kept, calibrate, resumed=resumed
    )

    foundation = open_foundation(taught.foundation) if taught.foundation else None
    freeze_stages(student.network, sections.optimizer.frozen_stages)
    trainee = trainee_of(methods, student, teacher, foundation, sampling.unlabelled_score)
    if share.count > 1:
        sync_batch_norms(trainee)
    rates = sections.optimizer.for_batches_of(batch_size)
    optimizer = optimizer_of(trainee, rates)
    average = MovingAverage(student.network, rates.ema_decay, rates.ema_warmup_steps)
    for network in (average, *(m.network for m in (teacher, foundation) if m is not None)):
        network.to(accelerator.device)
    trainee.to(accelerator.device)
    set_up(student.network, teacher.network if teacher else None, sections.step)
    prepared, optimizer = accelerator.prepare(trainee, optimizer)

    seen = asked.spec if asked else None
    report_inputs(student.spec, seen)
    loader = training_loader(
        *(sampling, sections.loop, train_split, student.spec, seen, share, passes),
        stay_pixels=accelerator.device.type != "cpu",
    )
    fit_adapters(trainee, first_batches(loader.data, batch_size, accelerator.device))
    save = partial(save_student, record=record)
    scaler = torch.amp.GradScaler(
        accelerator.device.type, enabled=sections.step.precision == "fp16"
    )
    state = RunState(trainee, average, optimizer, identity, sections.loop.epochs, scaler)
    loop = TrainingLoop(
        out=out,
        schedule=sections.loop,
        optimizer_config=rates,
        processes=processes,
        step=TrainingStep(processes, prepared, state, sections.step, rates.clip_norm),
        state=state,
        averaged=replace(student, network=average.module),
        validation=NetworkInputs(val_split, student.spec),
        evaluate=partial(evaluate_together, batch_size=batch_size, processes=processes),
        best=BestStudent(out, sections.loop.best_metric, sections.loop.patience, save),
        is_profiled=is_profiled,
    )
    metrics = loop.train(loader)
    if loader.data.unlabelled:
        metrics["unlabelled_frames"] = float(loader.data.unlabelled)
    if processes.is_main:
        finish(out, loop.averaged, metrics, record, identity.sources)
    return metrics


def draw(config: DistillConfig, path: Path) -> None:
    """Draw what a run trains on first, augmented, to a PNG file; nothing is trained.

    Raises:
        DataError: If a label or an image is wrong.
    """
    split = open_split(config.data, config.data.train_split)
    draw_samples(config, split, path)
