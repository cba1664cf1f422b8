"""The training run, read top to bottom."""

from __future__ import annotations

from dataclasses import replace
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
from edgedetr.distill.training.run_folder import STATE, finish, finished_metrics, only_run_in
from edgedetr.distill.training.run_identity import identity_of
from edgedetr.distill.training.run_state import RunState
from edgedetr.distill.training.unlabelled import MixedFrames, least_batch, with_unlabelled
from edgedetr.distill.weights.foundation import open_foundation

if TYPE_CHECKING:
    import os

    from edgedetr.distill.config import DistillConfig


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
    out = Path(out)
    with only_run_in(out):
        return _train(config, out, command, calibrate)


def _train(
    config: DistillConfig, out: Path, command: str, calibrate: Calibrate
) -> dict[str, float]:
    check_names(config.student, config.teacher)
    splits = train_split, val_split = open_splits(config.data)
    identity = identity_of(config, *splits)
    finished = finished_metrics(out, identity)
    if finished is not None:
        return finished

    accelerator = Accelerator()
    torch.manual_seed(config.seed)
    taught = config.teacher_config
    student = open_student(config.student, config.data.classes, taught.class_names)
    teacher = open_teacher(taught)
    student = inherited(student, teacher, config.student)
    methods = config.method_configs
    asked = teacher if needs_teacher(methods) else None
    check_inputs(student, asked, splits, least_batch(config.batch_size, config.data))
    kept, resumed = out / "quantization.json", (out / STATE).is_file()
    student = quantized_student(student, config.qat, train_split, kept, calibrate, resumed=resumed)

    foundation = open_foundation(config.foundation) if config.foundation else None
    trainee = trainee_of(methods, student, teacher, foundation, config.data.unlabelled_score)
    optimizer = optimizer_of(trainee, config.optimizer)
    average = MovingAverage(student.network, config.optimizer.ema_decay)
    average.to(accelerator.device)
    for frozen in (teacher, foundation):
        if frozen is not None:
            frozen.network.to(accelerator.device)
    prepared, optimizer = accelerator.prepare(trainee, optimizer)

    report_inputs(student.spec, asked.spec if asked else None)
    frames = with_unlabelled(train_split, config.data)
    inputs = NetworkInputs(frames, student.spec, asked.spec if asked else None)
    data = TrainingInputs(inputs, config.data.augment, config.seed)
    fit_adapters(trainee, first_batches(data, config.batch_size, accelerator.device))
    loader = TrainingLoader(
        data,
        order_of(frames, config.data, config.batch_size, config.seed),
        config.data.workers,
    )
    loop = TrainingLoop(
        out=out,
        schedule=config.schedule,
        optimizer_config=config.optimizer,
        accelerator=accelerator,
        prepared=prepared,
        state=RunState(trainee, average, optimizer, identity, config.epochs),
        averaged=replace(student, network=average.module),
        validation=NetworkInputs(val_split, student.spec),
        evaluate=partial(evaluate, batch_size=config.batch_size),
    )
    metrics = loop.train(loader)
    if isinstance(frames, MixedFrames):
        metrics["unlabelled_frames"] = float(frames.unlabelled)
    if accelerator.is_main_process:
        finish(out, loop.averaged, metrics, config, identity, command=command)
    return metrics
