"""The training run, read top to bottom."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from edgedetr.distill.data import open_dataset
from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.distill.evaluation.predict import detections_on
from edgedetr.distill.methods import method
from edgedetr.distill.model import Model, new_model
from edgedetr.distill.networks.finite import NotFiniteError
from edgedetr.distill.training.adapters import first_batches, fit_adapters
from edgedetr.distill.training.averaging import MovingAverage
from edgedetr.distill.training.distillation_model import Trainee, parameter_groups
from edgedetr.distill.training.loader import (
    EpochOrder,
    NetworkInputs,
    TrainingInputs,
    TrainingLoader,
    one_line_of_workers,
)
from edgedetr.distill.training.objective import distillation_of
from edgedetr.distill.training.preflight import (
    query_count,
    require_norms,
    warn_of_crowds,
    warn_of_warmup,
)
from edgedetr.distill.training.qat import quantized_student
from edgedetr.distill.training.run_folder import (
    METRICS,
    STATE,
    STUDENT,
    finished_metrics,
    only_run_in,
)
from edgedetr.distill.training.run_identity import identity_of
from edgedetr.distill.training.run_log import RunLog, without_nan
from edgedetr.distill.training.run_state import RunState
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.distill.weights.pretrained import (
    is_checkpoint,
    load_backbone,
    load_class_rows,
    load_detector,
    local_file,
)
from edgedetr.distill.weights.selection import class_tensors, inherit
from edgedetr.runtime.errors import ArtifactError, EdgeDetrError
from edgedetr.runtime.files import write_text
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from edgedetr.distill.config import DistillConfig, OptimizerConfig
    from edgedetr.distill.data import Dataset
    from edgedetr.distill.types import Losses, Targets


def train(config: DistillConfig, out: str | os.PathLike[str], command: str) -> dict[str, float]:
    """Train the student that a config describes.

    Writes ``student.safetensors`` (the moving average) with its manifest, ``metrics.json``,
    ``log.jsonl`` and TensorBoard scalars into ``out``. While it runs, ``state.safetensors`` holds
    the last whole epoch; a run that was killed goes on from there with the same result, and one
    that is finished is left as it is. A student that is trained for INT8 computes as in INT8 all
    the while, and is evaluated so; ``quantization.json`` says where it rounds, and so does its
    checkpoint.

    Args:
        config: The run's settings.
        out: Folder of the run.
        command: What the manifest names as maker.

    Returns:
        COCO AP and AP50 on the validation split (NaN where it holds no object; null in the files),
        the seconds that training took, and on a GPU the peak of its memory in MiB.

    Raises:
        UsageError: If another run is at work in ``out``, or the student cannot be trained so.
        ArtifactError: If ``out`` holds a run of other settings or one that learns from something
            else, or a file of weights is missing or foreign.
        DataError: If a label or an image is wrong.
        OSError: If the disk is full; the run goes on from its last whole epoch when it is not.
    """
    out = Path(out)
    with only_run_in(out):
        return _train(config, out, command)


def _train(config: DistillConfig, out: Path, command: str) -> dict[str, float]:
    accelerator = Accelerator()
    torch.manual_seed(config.seed)
    student, teacher = student_of(config), teacher_of(config)
    train_split, val_split = (
        open_dataset(
            config.data.format, config.data.root, split, config.data.classes, config.data.untrained
        )
        for split in (config.data.train_split, config.data.val_split)
    )
    identity = identity_of(config, train_split, val_split)
    finished = finished_metrics(out, identity)
    if finished is not None:
        (out / STATE).unlink(missing_ok=True)
        tqdm.write(f"{out}: is up to date: the run is finished")
        return finished
    queries = check_inputs(config, student, teacher)
    require_norms(student, config.student.input_hw, min(config.batch_size, len(train_split)))
    warn_of_crowds((*train_split.truths, *val_split.truths), queries)
    if config.student.inherit and teacher is not None:
        inherit(student, teacher)
    student = quantized_student(
        student,
        config.qat,
        train_split,
        out / "quantization.json",
        resumed=(out / STATE).is_file(),
    )
    trainee = trainee_of(config, student, teacher)
    optimizer = torch.optim.AdamW(parameter_groups(trainee, config.optimizer), fused=True)
    average = MovingAverage(student.network, config.optimizer.ema_decay)
    average.to(accelerator.device)
    if teacher is not None:
        teacher.network.to(accelerator.device)
    prepared, optimizer = accelerator.prepare(trainee, optimizer)
    run = _Run(
        config=config,
        out=out,
        accelerator=accelerator,
        prepared=prepared,
        averaged=replace(student, network=average.module),
        state=RunState(trainee, average, optimizer, identity, config.epochs),
        validation=(val_split, NetworkInputs(val_split, student.spec)),
    )
    inputs = NetworkInputs(train_split, student.spec)
    data = TrainingInputs(inputs, config.data.augment, config.seed)
    fit_adapters(trainee, first_batches(data, config.batch_size, accelerator.device))
    metrics = run.train(data)
    if accelerator.is_main_process:
        _finish(run, metrics, command)
    return metrics


def check_inputs(config: DistillConfig, student: Model, teacher: Model | None) -> int | None:
    """Run the encoders once at the student's input size; return how many queries the student has.

    Raises:
        UsageError: If an encoder has fewer cells than its model has queries.
    """
    if teacher is not None and any(method(name).NEEDS_TEACHER for name in config.methods):
        query_count(teacher, config.student.input_hw)
    return query_count(student, config.student.input_hw)


def trainee_of(config: DistillConfig, student: Model, teacher: Model | None) -> Trainee:
    """Join student and methods, with the teacher's memory if a method asks for it."""
    distillation = distillation_of(
        [config.method_config(name) for name in config.methods], student, teacher
    )
    asked = any(method(name).NEEDS_TEACHER for name in config.methods)
    if teacher is None or not asked:
        return Trainee(student, distillation)
    return Trainee(student, distillation, TeacherMemory(teacher))


def student_of(config: DistillConfig) -> Model:
    """Make the student, from scratch or from weights that the config names."""
    wanted = config.student
    spec = ModelSpec(
        input_hw=wanted.input_hw, class_names=config.data.classes, resize=wanted.resize
    )
    if not wanted.init or not is_checkpoint(wanted.init):
        model = new_model(wanted.family, wanted.preset, spec)
        if wanted.init:
            _start_from(model, wanted.init)
        if wanted.backbone_weights:
            load_backbone(model.network, wanted.backbone_weights)
        return model
    model = load_model(Path(wanted.init))
    if (model.family, model.preset) != (wanted.family, wanted.preset):
        raise ArtifactError(
            f"{wanted.init} holds {model.family}/{model.preset}, the config wants "
            f"{wanted.family}/{wanted.preset}"
        )
    if model.spec.class_names != config.data.classes:
        other = model
        model = new_model(wanted.family, wanted.preset, spec)
        copied = inherit(model, other)
        tqdm.write(f"{wanted.init} was trained on other classes: {len(copied)} tensors taken over")
    return Model(model.family, model.preset, spec, model.network)


def _start_from(model: Model, source: str) -> None:
    """Fill a student from weights in transformers' naming, and say what became of it."""
    heads = class_tensors(model)
    filled, count = load_detector(model.network, source, heads)
    names = load_class_rows(model.network, source, heads, model.spec.class_names)
    fresh = [name for name in model.spec.class_names if name not in names]
    said = [f"class rows by name: {', '.join(names)}"] * bool(names)
    said += [f"class rows that start fresh: {', '.join(fresh)}"] * bool(fresh)
    tqdm.write(
        f"{source} fills {filled + len(heads) * bool(names)} of the student's {count} tensors; "
        f"{'; '.join(said)}"
    )


def teacher_of(config: DistillConfig) -> Model | None:
    """Load the frozen teacher, if the config names one; it answers in the student's classes."""
    if not config.teacher:
        return None
    teacher = replace(load_model(Path(config.teacher)), quantization=None)
    teacher.network.requires_grad_(requires_grad=False)
    wanted = [str(config.class_map.get(name, name)) for name in config.data.classes]
    unknown = [name for name in wanted if name not in teacher.spec.class_names]
    if unknown:
        raise ArtifactError(
            f"{config.teacher} knows the classes {', '.join(teacher.spec.class_names)}, not "
            f"{', '.join(unknown)}; name the teacher's class of each in [class_map], "
            f'like {unknown[0]} = "{teacher.spec.class_names[0]}"'
        )
    return teacher.with_classes(wanted)


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Return the share of the peak learning rate at a step: linear up, cosine down to 0."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, eq=False)
class _Run:
    config: DistillConfig
    out: Path
    accelerator: Accelerator
    prepared: Any
    averaged: Model
    state: RunState
    validation: tuple[Dataset, NetworkInputs]

    @property
    def state_path(self) -> Path:
        return self.out / STATE

    def train(self, data: TrainingInputs) -> dict[str, float]:
        """Run the epochs that are left; return the last evaluation."""
        config = self.config
        order = EpochOrder(len(data), config.batch_size, config.seed)
        loader = TrainingLoader(data, order, config.data.workers)
        done = self.state.load(self.state_path) if self.state_path.is_file() else 0
        started, total = time.perf_counter(), config.epochs * len(order)
        device = self.accelerator.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        metrics: dict[str, float] = {}
        self._read(data)
        warn_of_warmup(total, config.optimizer)
        self.prepared.train()
        with (
            one_line_of_workers(),
            closing(RunLog(self.out, done, len(order))) as log,
            tqdm(total=total, initial=done * len(order), unit="step", disable=None) as bar,
        ):
            if done and self._is_due(done - 1) and done - 1 not in log.evaluated_epochs:
                metrics = self._evaluate(done - 1, len(order), log)
            for epoch in range(done, config.epochs):
                order.epoch = epoch
                for index, batch in enumerate(loader):
                    step = epoch * len(order) + index
                    begun = time.perf_counter()
                    terms = self._step(*batch, step, total)
                    log.step(step, epoch, terms | {"seconds": time.perf_counter() - begun})
                    bar.set_postfix(loss=f"{terms['loss']:.2f}", refresh=False)
                    bar.update()
                if self.accelerator.is_main_process:
                    self.state.save(self.state_path, epoch + 1)
                if self._is_due(epoch):
                    metrics = self._evaluate(epoch, len(order), log)
        metrics = metrics or self._measure()
        metrics |= {"seconds": time.perf_counter() - started}
        if device.type == "cuda":
            metrics["peak_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
        return metrics

    def _read(self, data: TrainingInputs) -> None:
        """Read what memory can hold; an image of the validation split is not first met hours on."""
        data.read()
        self.validation[1].check()
        memory = self.state.trainee.teacher_memory
        if memory is not None and self.config.data.augment == "flip":
            memory.learn(data.mirrored_too(self.config.batch_size), 2 * len(data))

    def _is_due(self, epoch: int) -> bool:
        """Tell whether the student is evaluated after an epoch."""
        return epoch + 1 == self.config.epochs or (epoch + 1) % self.config.eval_every == 0

    def _step(
        self, images: Tensor, targets: list[Targets], step: int, steps: int
    ) -> dict[str, float]:
        """Take one optimizer step; return the summed and the single terms."""
        torch.manual_seed(self.config.seed * 1_000_003 + step)
        optimizer = self.state.optimizer
        factor = learning_rate_factor(step, steps, self.config.optimizer)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
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
        norm = self.accelerator.clip_grad_norm_(parameters, self.config.optimizer.clip_norm)
        if not torch.isfinite(norm):
            raise self._diverged(step, "gradient", targets)
        optimizer.step()
        self.state.average.update(self.state.trainee.network)
        return terms | {"lr": self.config.optimizer.learning_rate * factor}

    def _diverged(self, step: int, what: str, targets: list[Targets]) -> EdgeDetrError:
        kept = f"the last whole epoch is in {self.state_path}; " * self.state_path.is_file()
        return EdgeDetrError(
            f"step {step}: the loss is not finite ({what}) on frames "
            f"{', '.join(t.frame_id for t in targets)}; {kept}lower optimizer.learning_rate"
        )

    def _evaluate(self, epoch: int, steps_per_epoch: int, log: RunLog) -> dict[str, float]:
        """Measure what an epoch left, log it and say it."""
        metrics = self._measure()
        log.evaluation((epoch + 1) * steps_per_epoch, epoch, metrics)
        tqdm.write(f"epoch {epoch + 1}: AP {metrics['ap']:.3f}, AP50 {metrics['ap50']:.3f}")
        return metrics

    def _measure(self) -> dict[str, float]:
        dataset, inputs = self.validation
        try:
            found = detections_on(self.averaged, inputs, self.config.batch_size)
        except NotFiniteError as error:
            raise EdgeDetrError(
                f"the student's {error.names} are not finite on the validation split; lower "
                "optimizer.learning_rate"
            ) from error
        result = coco_ap(dataset.truths, found, dataset.class_names)
        return {"ap": result.ap, "ap50": result.ap50}


def _summary(detection: Losses, distillation: dict[str, Tensor]) -> dict[str, float]:
    """Name the terms as the log does, and sum everything to ``loss``."""
    sums: dict[str, float] = defaultdict(float)
    names = [*(term.log_name for term in detection), *distillation]
    values = torch.stack([*detection.values(), *distillation.values()]).detach().cpu().tolist()
    for name, value in zip(names, values, strict=True):
        sums[name] += value
    return {"loss": sum(values), **sums}


def _finish(run: _Run, metrics: dict[str, float], command: str) -> None:
    """Write the student, its manifest and its metrics; then the state is not needed any more."""
    path, student = run.out / STUDENT, run.config.student
    sources = [run.config.teacher, student.init, student.backbone_weights]
    save_model(
        path,
        run.averaged,
        command=command,
        parents=[local_file(source) for source in sources if source],
        summary=f"AP {metrics['ap']:.3f}, AP50 {metrics['ap50']:.3f} on "
        f"{run.config.data.val_split} of {run.config.data.root}",
    )
    record = {
        "config": run.config.record(),
        "sources": run.state.identity.sources,
        "metrics": without_nan(metrics),
        "command": command,
    }
    write_text(run.out / METRICS, json.dumps(record, indent=2) + "\n")
    run.state_path.unlink(missing_ok=True)
