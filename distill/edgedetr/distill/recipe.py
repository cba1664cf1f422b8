"""The training run, read top to bottom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator

from edgedetr.distill.evaluation.predict import evaluate
from edgedetr.distill.training.adapters import first_batches, fit_adapters
from edgedetr.distill.training.averaging import MovingAverage
from edgedetr.distill.training.distillation_model import trainee_of
from edgedetr.distill.training.loader import (
    NetworkInputs,
    TrainingInputs,
    TrainingLoader,
    open_splits,
    order_of,
)
from edgedetr.distill.training.loop import TrainingLoop
from edgedetr.distill.training.models import inherited, open_student, open_teacher, report_inputs
from edgedetr.distill.training.objective import needs_teacher
from edgedetr.distill.training.optimizer import optimizer_of
from edgedetr.distill.training.preflight import check_inputs, check_names
from edgedetr.distill.training.qat import Calibrate, quantized_student, uncalibrated
from edgedetr.distill.training.run_folder import (
    STATE,
    RunRecord,
    finish,
    finished_metrics,
    only_run_in,
)
from edgedetr.distill.training.run_identity import identity_of
from edgedetr.distill.training.run_state import RunState
from edgedetr.distill.training.unlabelled import MixedFrames, least_batch, with_unlabelled
from edgedetr.distill.weights.foundation import open_foundation

if TYPE_CHECKING:
    import os

    from edgedetr.distill.config import (
        DataConfig,
        DistillConfig,
        MethodConfig,
        OptimizerConfig,
        QatConfig,
        ScheduleConfig,
        StudentConfig,
    )
    from edgedetr.distill.teacher_config import TeacherConfig


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
    """

    data: DataConfig
    student: StudentConfig
    qat: QatConfig
    teacher: TeacherConfig
    objective: tuple[MethodConfig, ...]
    optimizer: OptimizerConfig
    loop: ScheduleConfig


def train(
    config: DistillConfig,
    out: str | os.PathLike[str],
    command: str,
    calibrate: Calibrate = uncalibrated,
) -> dict[str, float]:
    """Train the student that a config describes.

    Writes ``student.safetensors`` (the moving average) with its manifest, ``metrics.json``,
    ``log.jsonl`` and TensorBoard scalars into ``out``. While it runs, ``state.safetensors`` holds
    the last whole epoch; a run that was killed resumes there with the same result, and a finished
    one is left as it is. A student that is trained for INT8 computes as in INT8 all
    the while, and is evaluated so; ``quantization.json`` says where it rounds, and so does its
    checkpoint.

    Args:
        config: The run's settings.
        out: Folder of the run.
        command: The command that the manifest records.
        calibrate: Calibrates a student that is trained for INT8.

    Returns:
        COCO AP and AP50 on the validation split (NaN where it holds no object; null in the files),
        the seconds that training took, and on a GPU the peak of its memory in MiB.

    Raises:
        UsageError: If another run is using ``out``, or the student cannot be trained so.
        ArtifactError: If ``out`` holds a run of other settings, data or weights, or a file of
            weights is missing or of another detector.
        DataError: If a label or an image is wrong.
        OSError: If the disk is full; the run can be resumed from its last whole epoch.
    """
    sections = Sections(
        data=config.data,
        student=config.student,
        qat=config.qat,
        teacher=config.teacher_config,
        objective=config.method_configs,
        optimizer=config.optimizer,
        loop=config.schedule,
    )
    validation = f"{config.data.val_split} of {config.data.root}"
    record = RunRecord(config.record(), config.weights, validation, command)
    with only_run_in(Path(out)):
        return _train(sections, record, Path(out), calibrate)


def _train(
    sections: Sections, record: RunRecord, out: Path, calibrate: Calibrate
) -> dict[str, float]:
    check_names(sections.student, sections.teacher.checkpoint)
    splits = train_split, val_split = open_splits(sections.data)
    identity = identity_of(record.settings, record.weights, *splits)
    finished = finished_metrics(out, identity)
    if finished is not None:
        return finished

    accelerator = Accelerator()
    batch_size, seed = sections.loop.batch_size, sections.loop.seed
    torch.manual_seed(seed)
    taught = sections.teacher
    student = open_student(sections.student, sections.data.classes, taught.class_names)
    teacher = open_teacher(taught)
    student = inherited(student, teacher, sections.student)
    methods = sections.objective
    asked = teacher if needs_teacher(methods) else None
    check_inputs(student, asked, splits, least_batch(batch_size, sections.data))
    kept, resumed = out / "quantization.json", (out / STATE).is_file()
    student = quantized_student(
        student, sections.qat, train_split, kept, calibrate, resumed=resumed
    )

    foundation = open_foundation(taught.foundation) if taught.foundation else None
    trainee = trainee_of(methods, student, teacher, foundation, sections.data.unlabelled_score)
    optimizer = optimizer_of(trainee, sections.optimizer)
    average = MovingAverage(student.network, sections.optimizer.ema_decay)
    average.to(accelerator.device)
    for frozen in (teacher, foundation):
        if frozen is not None:
            frozen.network.to(accelerator.device)
    prepared, optimizer = accelerator.prepare(trainee, optimizer)

    report_inputs(student.spec, asked.spec if asked else None)
    frames = with_unlabelled(train_split, sections.data)
    inputs = NetworkInputs(frames, student.spec, asked.spec if asked else None)
    data = TrainingInputs(inputs, sections.data.augment, seed)
    fit_adapters(trainee, first_batches(data, batch_size, accelerator.device))
    order = order_of(frames, sections.data, batch_size, seed)
    loader = TrainingLoader(data, order, sections.data.workers)
    loop = TrainingLoop(
        out=out,
        schedule=sections.loop,
        optimizer_config=sections.optimizer,
        accelerator=accelerator,
        prepared=prepared,
        state=RunState(trainee, average, optimizer, identity, sections.loop.epochs),
        averaged=replace(student, network=average.module),
        validation=NetworkInputs(val_split, student.spec),
        evaluate=partial(evaluate, batch_size=batch_size),
    )
    metrics = loop.train(loader)
    if isinstance(frames, MixedFrames):
        metrics["unlabelled_frames"] = float(frames.unlabelled)
    if accelerator.is_main_process:
        finish(out, loop.averaged, metrics, record, identity.sources)
    return metrics
