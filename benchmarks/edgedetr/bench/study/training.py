"""One run of a study: everything lies on the device, and the teacher has spoken in advance."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgedetr.distill.config import MethodConfig
from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.distill.methods import method
from edgedetr.distill.model import Model, new_model
from edgedetr.distill.optimizer_config import OptimizerConfig
from edgedetr.distill.training.adapters import IMAGES, fit_adapters
from edgedetr.distill.training.averaging import MovingAverage
from edgedetr.distill.training.distillation_model import Trainee
from edgedetr.distill.training.objective import distillation_of
from edgedetr.distill.training.optimizer import learning_rate_factor, parameter_groups
from edgedetr.distill.weights.inheritance import inherit
from edgedetr.runtime.errors import EdgeDetrError
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from edgedetr.bench.study.frames import Frames
    from edgedetr.bench.study.plan import Arm, Pair, Run, Try
    from edgedetr.distill.types import Targets
    from edgedetr.runtime.spec import ModelSpec

CURVE = (0.25, 0.5, 0.75, 1.0)
"""When the tuning split is looked at, as shares of a run."""

CURVE_FRAMES = 200
"""How much of it is looked at for the curve."""

ENCODED_AT_ONCE = 64
WARM_UP = 60
EMA_DECAY = 0.996


class OutOfTimeError(Exception):
    """A run that was stopped by the study's time limit; it leaves nothing."""


class DivergedError(EdgeDetrError):
    """A run whose loss was not finite; it counts with an AP of 0."""


@dataclass(frozen=True, eq=False)
class Shelf:
    """Training images, some variants of each, on the device.

    Attributes:
        pixels: uint8 (V, N, 3, H, W).
        targets: By variant and image.
        spec: The network's input.
        tune: Frames to tune on.
        test: Frames to report.
    """

    pixels: Tensor
    targets: list[list[Targets]]
    spec: ModelSpec
    tune: Frames
    test: Frames

    def images(self, variants: NDArray[np.int64], indices: NDArray[np.int64]) -> Tensor:
        """Return network inputs (B, 3, H, W)."""
        return normalised(self.pixels[variants, indices], self.spec)


class CachedMemory:
    """The teacher's memory of every variant of every image, in advance.

    Args:
        teacher: On the device.
        shelf: The images.
    """

    @torch.no_grad()
    def __init__(self, teacher: Model, shelf: Shelf) -> None:
        self._images = shelf.pixels.shape[1]
        self._rows: NDArray[np.int64] = np.zeros(0, np.int64)
        parts: list[tuple[Tensor, ...]] = []
        flat = shelf.pixels.flatten(0, 1)
        for some in torch.split(flat, ENCODED_AT_ONCE):
            images = normalised(some, shelf.spec).contiguous(memory_format=torch.channels_last)
            self._like = teacher.encode(images)
            parts.append(self._like.tensors())
        self._known = [torch.cat(part) for part in zip(*parts, strict=True)]

    def turn_to(self, variants: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
        """Name the images of the next step."""
        self._rows = variants * self._images + indices

    def __call__(self, *_: object) -> Any:  # noqa: ANN401 - what the family's `encode` gives
        """Return the teacher's memory of the images named last."""
        return self._like.with_tensors([part[self._rows] for part in self._known])


@dataclass(frozen=True, eq=False)
class Job:
    """One run and what it needs.

    Attributes:
        run: Which one it is.
        pair: Of its models.
        chosen: What it trains with.
        shelf: Its images.
        teacher: On their device.
        memory: The teacher's, for arms that need it.
        until: When the study's time is over, on `time.monotonic`'s clock.
    """

    run: Run
    pair: Pair
    chosen: Try
    shelf: Shelf
    teacher: Model
    memory: CachedMemory | None
    until: float

    @property
    def arm(self) -> Arm:
        """How the run trains."""
        return self.pair.arms[self.run.arm]

    @property
    def steps(self) -> int:
        """How long it trains."""
        return self.pair.steps_of(self.run.arm)


def trained(job: Job) -> dict[str, Any]:
    """Train and score one run; ``diverged`` says why where its loss was not finite.

    Raises:
        OutOfTimeError: If the time is over before it is trained.
    """
    begun = time.perf_counter()
    loop = _Loop(job)
    try:
        found = _curve_and_score(loop, job)
    except DivergedError as error:
        found = {"ap": 0.0, "ap50": 0.0, "ap75": 0.0, "curve": [], "diverged": str(error)}
    return {
        "learning_rate": job.chosen.learning_rate,
        "weight": job.chosen.weight,
        "steps": job.steps,
        "batch": job.pair.batch,
        **found,
        "step_ms": 1e3 * loop.seconds / max(1, loop.done),
        "seconds": time.perf_counter() - begun,
    }


def _curve_and_score(loop: _Loop, job: Job) -> dict[str, Any]:
    loop.fit_adapters()
    curve, terms = [], {}
    for share in CURVE:
        terms = loop.until(round(share * job.steps))
        curve.append([loop.done, loop.score(job.shelf.tune.first(CURVE_FRAMES))["ap"]])
    scored = loop.score(job.shelf.tune if job.run.kind == "tune" else job.shelf.test)
    return {**scored, "curve": curve, "terms": terms}


def score(model: Model, frames: Frames, device: torch.device) -> dict[str, float]:
    """Return AP, AP50 and AP75 in per cent of a model in evaluation on some frames."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(frames), ENCODED_AT_ONCE):
            some = slice(start, start + ENCODED_AT_ONCE)
            images = normalised(frames.pixels[some].to(device), model.spec)
            logits, boxes = (
                x.float().cpu().numpy() for x in model.module.predict(model.network, images)
            )
            found += [
                postprocess(z, b, place, model.spec, 0.0)
                for z, b, place in zip(logits, boxes, frames.places[some], strict=True)
            ]
    scores = coco_ap(frames.truths, found, model.spec.class_names)
    return {"ap": 100 * scores.ap, "ap50": 100 * scores.ap50, "ap75": 100 * scores.ap75}


def normalised(pixels: Tensor, spec: ModelSpec) -> Tensor:
    """Turn uint8 (B, 3, H, W) into network inputs."""
    mean, std = (
        torch.tensor(x, device=pixels.device)[:, None, None] for x in (spec.mean, spec.std)
    )
    return (pixels.float() / 255 - mean) / std


def _trainee(job: Job) -> Trainee:
    torch.manual_seed(job.run.seed)
    student = new_model(job.pair.family, job.pair.preset, job.shelf.spec)
    device = job.shelf.pixels.device
    student.network.to(device)
    if job.arm.inherit:
        inherit(student, job.teacher)
    configs = [_method_config(name, job.arm, job.chosen) for name in job.arm.methods]
    distillation = distillation_of(configs, student, job.teacher)
    trainee = Trainee(student, distillation, job.memory)  # type: ignore[arg-type]
    return trainee.to(device).train()


def _method_config(name: str, arm: Arm, chosen: Try) -> MethodConfig:
    values = dict(arm.settings.get(name, {}))
    share = float(values.pop("share", 0.0))
    weight = float(values.pop("weight", 1.0)) * chosen.weight
    settings = settings_from_dict(method(name).Settings, values, f"[method.{name}]")
    return MethodConfig(name, weight, share * chosen.weight, settings)


class _Loop:
    """Steps of one run."""

    def __init__(self, job: Job) -> None:
        self.job, self.shelf, self.trainee = job, job.shelf, _trainee(job)
        self.done, self.seconds = 0, 0.0
        self.config = OptimizerConfig(
            learning_rate=job.chosen.learning_rate, warmup_steps=WARM_UP, ema_decay=EMA_DECAY
        )
        device = job.shelf.pixels.device
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.trainee, self.config), fused=device.type == "cuda"
        )
        self.average = MovingAverage(self.trainee.network, EMA_DECAY).to(device)
        self.order = np.random.default_rng(job.run.seed)
        self.left: NDArray[np.int64] = np.zeros(0, np.int64)

    def fit_adapters(self) -> None:
        """Fit adapters on the first images, as a training run does."""
        count = min(IMAGES, self.shelf.pixels.shape[1])
        indices, variants = np.arange(count), np.zeros(count, np.int64)
        if self.job.memory is not None:
            self.job.memory.turn_to(variants, indices)
        targets = [self.shelf.targets[0][i] for i in indices]
        fit_adapters(self.trainee, [(self.shelf.images(variants, indices), targets)])

    def until(self, step: int) -> dict[str, float]:
        """Train on to a step; return the last step's terms."""
        begun = time.perf_counter()
        detection: Mapping[str, Tensor] = {}
        distillation: Mapping[str, Tensor] = {}
        while self.done < step:
            if time.monotonic() > self.job.until:
                raise OutOfTimeError
            detection, distillation = self._step()
            self.done += 1
        total = torch.stack([*detection.values()]).sum().item()
        terms = {"detection": total, **{k: v.item() for k, v in distillation.items()}}
        if not all(map(math.isfinite, terms.values())):
            raise DivergedError(f"the loss at step {self.done} is not finite")
        self.seconds += time.perf_counter() - begun
        return terms

    def score(self, frames: Frames) -> dict[str, float]:
        """Score the moving average."""
        network = self.average.module.eval()
        student = replace(self.trainee.student, network=network)
        return score(student, frames, self.shelf.pixels.device)

    def _step(self) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        torch.manual_seed(self.job.run.seed * 1_000_003 + self.done)
        variants, indices = self._next()
        if self.job.memory is not None:
            self.job.memory.turn_to(variants, indices)
        factor = learning_rate_factor(self.done, self.job.steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        targets = [self.shelf.targets[v][i] for v, i in zip(variants, indices, strict=True)]
        detection, distillation = self.trainee(self.shelf.images(variants, indices), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.stack([*detection.values(), *distillation.values()]).sum()
        torch.autograd.backward(loss)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        self.optimizer.step()
        self.average.update(self.trainee.network)
        return detection, distillation

    def _next(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the variants and indices of a step's images; every image once an epoch."""
        variants, images = self.shelf.pixels.shape[:2]
        while len(self.left) < self.job.pair.batch:
            self.left = np.concatenate([self.left, self.order.permutation(images)])
        indices, self.left = self.left[: self.job.pair.batch], self.left[self.job.pair.batch :]
        return self.order.integers(variants, size=self.job.pair.batch), indices
