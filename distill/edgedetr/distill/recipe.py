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
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from edgedetr.distill.adapters import first_batches, fit_adapters
from edgedetr.distill.averaging import MovingAverage
from edgedetr.distill.batches import EpochOrder, NetworkInputs, TrainingInputs, training_loader
from edgedetr.distill.checkpoint import load_model, save_model
from edgedetr.distill.data import open_dataset
from edgedetr.distill.distillation import distillation_of
from edgedetr.distill.evaluate_coco import coco_ap
from edgedetr.distill.inheritance import inherit
from edgedetr.distill.methods import method
from edgedetr.distill.model import Model, new_model
from edgedetr.distill.prediction import detections_on
from edgedetr.distill.pretrained import is_checkpoint, load_backbone, load_detector, local_file
from edgedetr.distill.quantized_student import quantized_student
from edgedetr.distill.run_state import RunState
from edgedetr.distill.teacher_memory import TeacherMemory
from edgedetr.distill.trainee import Trainee, parameter_groups
from edgedetr.runtime.errors import ArtifactError, EdgeDetrError
from edgedetr.runtime.files import write_text
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

    from edgedetr.distill.config import DistillConfig, OptimizerConfig
    from edgedetr.distill.data import Dataset
    from edgedetr.distill.detectors import Targets

STATE = "state.safetensors"
"""What a run writes after each epoch, to go on from there."""


def train(config: DistillConfig, out: Path, command: str) -> dict[str, float]:
    """Train the student that a config describes.

    Writes ``student.safetensors`` (the moving average) with its manifest, ``metrics.json``,
    ``log.jsonl`` and TensorBoard scalars into ``out``. While it runs, ``state.safetensors`` holds
    the last whole epoch; a run that was killed goes on from there with the same result. A student
    that is trained for INT8 computes as in INT8 all the while, and is evaluated so;
    ``quantization.json`` says where it rounds, and so does its checkpoint.

    Args:
        config: The run's settings.
        out: Folder of the run.
        command: What the manifest names as maker.

    Returns:
        COCO AP and AP50 on the validation split (NaN where it holds no object; null in the files),
        the seconds that training took, and on a GPU the peak of its memory in MiB.
    """
    accelerator = Accelerator()
    torch.manual_seed(config.seed)
    student, teacher = student_of(config), teacher_of(config)
    if config.student.inherit and teacher is not None:
        inherit(student, teacher)
    train_split, val_split = (
        open_dataset(config.data.format, Path(config.data.root), split, config.data.classes)
        for split in (config.data.train_split, config.data.val_split)
    )
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
    state = RunState(trainee, average, optimizer, json.dumps(config.record(), sort_keys=True))
    run = _Run(
        config=config,
        out=out,
        accelerator=accelerator,
        prepared=prepared,
        averaged=replace(student, network=average.module),
        state=state,
        validation=(val_split, NetworkInputs(val_split, student.spec)),
    )
    data = TrainingInputs(
        NetworkInputs(train_split, student.spec), config.data.augment, config.seed
    )
    fit_adapters(trainee, first_batches(data, config.batch_size, accelerator.device))
    metrics = run.train(data)
    if accelerator.is_main_process:
        _finish(run, metrics, command)
    return metrics


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
            filled, count = load_detector(model.network, wanted.init)
            tqdm.write(f"{wanted.init} fills {filled} of the student's {count} tensors")
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
        loader = training_loader(data, order, config.data.workers)
        done = self.state.load(self.state_path) if self.state_path.is_file() else 0
        started, total = time.perf_counter(), config.epochs * len(order)
        device = self.accelerator.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        metrics: dict[str, float] = {}
        data.read()
        memory = self.state.trainee.teacher_memory
        if memory is not None and config.data.augment == "flip":
            memory.learn(data.mirrored_too(config.batch_size), 2 * len(data))
        self.prepared.train()
        with (
            closing(_Log(self.out, done, len(order))) as log,
            tqdm(total=total, initial=done * len(order), unit="step", disable=None) as bar,
        ):
            for epoch in range(done, config.epochs):
                order.epoch = epoch
                for index, (images, targets) in enumerate(loader):
                    step = epoch * len(order) + index
                    begun = time.perf_counter()
                    terms = self._step(images, targets, step, total)
                    log.step(step, epoch, terms | {"seconds": time.perf_counter() - begun})
                    bar.set_postfix(loss=f"{terms['loss']:.2f}", refresh=False)
                    bar.update()
                if epoch + 1 == config.epochs or (epoch + 1) % config.eval_every == 0:
                    metrics = self._evaluate()
                    log.evaluation((epoch + 1) * len(order), epoch, metrics)
                    bar.write(_line(epoch, metrics))
                if self.accelerator.is_main_process:
                    self.state.save(self.state_path, epoch + 1)
        metrics = metrics or self._evaluate()
        metrics |= {"seconds": time.perf_counter() - started}
        if device.type == "cuda":
            metrics["peak_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
        return metrics

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
        detection, distillation = self.prepared(images.to(device), [t.to(device) for t in targets])
        loss = torch.stack([*detection.values(), *distillation.values()]).sum()
        terms = _summary(detection, distillation)
        if not math.isfinite(terms["loss"]):
            wrong = [k for k, v in terms.items() if not math.isfinite(v) and k != "loss"]
            raise EdgeDetrError(
                f"step {step}: the loss is not finite ({', '.join(wrong)}) on frames "
                f"{', '.join(t.frame_id for t in targets)}; the last whole epoch is in "
                f"{self.state_path}; lower optimizer.learning_rate"
            )
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.accelerator.clip_grad_norm_(parameters, self.config.optimizer.clip_norm)
        optimizer.step()
        self.state.average.update(self.state.trainee.network)
        return terms | {"lr": self.config.optimizer.learning_rate * factor}

    def _evaluate(self) -> dict[str, float]:
        dataset, inputs = self.validation
        found = detections_on(self.averaged, inputs, self.config.batch_size)
        result = coco_ap(dataset.truths, found, dataset.class_names)
        return {"ap": result.ap, "ap50": result.ap50}


def _line(epoch: int, metrics: dict[str, float]) -> str:
    return f"epoch {epoch + 1}: AP {metrics['ap']:.3f}, AP50 {metrics['ap50']:.3f}"


def _summary(detection: dict[str, Tensor], distillation: dict[str, Tensor]) -> dict[str, float]:
    """Sum a loss over the decoder layers it was taken at, and everything to ``loss``."""
    sums: dict[str, float] = defaultdict(float)
    names = [*detection, *distillation]
    values = torch.stack([*detection.values(), *distillation.values()]).detach().cpu().tolist()
    for name, value in zip(names, values, strict=True):
        sums[name.partition("_aux_")[0].partition("_dn_")[0]] += value
    return {"loss": sum(values), **sums}


class _Log:
    """``log.jsonl`` and TensorBoard scalars of one run; a resumed run goes on where it was."""

    def __init__(self, out: Path, done_epochs: int, steps_per_epoch: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        path = out / "log.jsonl"
        first = done_epochs * steps_per_epoch
        kept = path.read_text(encoding="utf-8").splitlines() if first and path.is_file() else []
        kept = [line for line in kept if json.loads(line)["epoch"] < done_epochs]
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")
        self._scalars = SummaryWriter(str(out / "tensorboard"), purge_step=first)

    def step(self, step: int, epoch: int, terms: dict[str, float]) -> None:
        """Write one training step; its ``seconds`` leave out loading the batch."""
        self._write({"kind": "step", "step": step, "epoch": epoch, **terms})

    def evaluation(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        """Write one evaluation."""
        self._write({"kind": "evaluation", "step": step, "epoch": epoch, **metrics})

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._scalars.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(_without_nan(record)) + "\n")
        self._file.flush()
        for name, value in record.items():
            if name not in {"kind", "step", "epoch"}:
                self._scalars.add_scalar(f"{record['kind']}/{name}", value, record["step"])


def _without_nan(record: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN, which JSON does not know, by null."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in record.items()}


def _finish(run: _Run, metrics: dict[str, float], command: str) -> None:
    """Write the student, its manifest and its metrics; then the state is not needed any more."""
    path, student = run.out / "student.safetensors", run.config.student
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
        "metrics": _without_nan(metrics),
        "command": command,
    }
    write_text(run.out / "metrics.json", json.dumps(record, indent=2) + "\n")
    run.state_path.unlink(missing_ok=True)
