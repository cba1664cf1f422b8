"""Small models and targets that the distillation tests share."""

from __future__ import annotations

import json
import os
import socket
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from edgedetr.distill.config import DataConfig, DistillConfig, StudentConfig
from edgedetr.distill.networks import query_fade
from edgedetr.distill.optimizer_config import OptimizerConfig
from edgedetr.distill.training.loop import TrainingLoop
from edgedetr.distill.training.optimizer import parameter_groups
from edgedetr.distill.types import Targets
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.runtime.errors import EdgeDetrError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgedetr.distill.model import Model

LABEL = "Car 0.00 0 0 {} 10.0 {} 40.0 1 1 1 1 1 1 0\n"
SPEC = ModelSpec(input_hw=(64, 96), class_names=("Car", "Pedestrian", "Cyclist"))


@pytest.fixture(autouse=True)
def _same_weights_every_time() -> None:
    """Seed what a test makes at random itself."""
    torch.manual_seed(0)


@pytest.fixture
def unfaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let predictions see every chosen query in full, as training does."""
    monkeypatch.setattr(query_fade, "attention_bias", lambda scores: 0 * scores[:, None, None])


@pytest.fixture
def make_targets() -> Callable[..., Targets]:
    """Makes one image's truth from boxes (cxcywh); box i has class i mod 3."""

    def make(*boxes: tuple[float, float, float, float], ignored: object = ()) -> Targets:
        return Targets(
            labels=torch.arange(len(boxes)) % 3,
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            ignored=torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
        )

    return make


@pytest.fixture
def targets(make_targets: Callable[..., Targets]) -> list[Targets]:
    """The truth of two images: two objects and one."""
    return [
        make_targets((0.3, 0.4, 0.2, 0.3), (0.7, 0.5, 0.3, 0.4)),
        make_targets((0.5, 0.6, 0.4, 0.3)),
    ]


@pytest.fixture
def images() -> torch.Tensor:
    """Two pictures of noise at the size of `SPEC`."""
    return torch.rand(2, 3, *SPEC.input_hw, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def make_kitti() -> Callable[[Path], Path]:
    """Writes six grey frames, each with one white car but the last, which is empty."""

    def make(root: Path) -> Path:
        for name in ("image_2", "label_2"):
            (root / "training" / name).mkdir(parents=True)
        (root / "ImageSets").mkdir()
        for index in range(6):
            image = np.full((64, 96, 3), 90, np.uint8)
            left = 10 + 8 * index
            if index < 5:
                image[10:40, left : left + 24] = 255
            cv2.imwrite(str(root / f"training/image_2/{index:06d}.png"), image)
            label = LABEL.format(left, left + 24) if index < 5 else ""
            (root / f"training/label_2/{index:06d}.txt").write_text(label, encoding="utf-8")
        for split, ids in {"train": (0, 1, 2, 5), "val": (3, 4)}.items():
            lines = "".join(f"{i:06d}\n" for i in ids)
            (root / f"ImageSets/{split}.txt").write_text(lines, encoding="utf-8")
        return root

    return make


@pytest.fixture(scope="session")
def make_config() -> Callable[[Path], DistillConfig]:
    """Makes the settings of a run of a few steps on such a folder."""

    def make(root: Path) -> DistillConfig:
        return DistillConfig(
            data=DataConfig(root=str(root), classes=SPEC.class_names),
            student=StudentConfig(input_hw=SPEC.input_hw),
            optimizer=OptimizerConfig(warmup_steps=2),
            epochs=3,
            batch_size=2,
            eval_every=2,
        )

    return make


class _Interrupt:
    """Interrupts the run that it follows when a step is logged, before its state is written.

    Args:
        step: At which step.
    """

    def __init__(self, step: int) -> None:
        self._step = step

    def start(self, records: object) -> None: ...

    def step(self, step: int, epoch: int, terms: object) -> None:  # noqa: ARG002 - a watcher's
        if step == self._step:
            raise KeyboardInterrupt

    def evaluation(self, step: int, epoch: int, metrics: object) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def interrupt() -> type[_Interrupt]:
    """A watcher that interrupts a run at a step."""
    return _Interrupt


@pytest.fixture
def kitti(tmp_path: Path, make_kitti: Callable[[Path], Path]) -> Path:
    """The folder of six frames."""
    return make_kitti(tmp_path / "kitti")


@pytest.fixture
def config(kitti: Path, make_config: Callable[[Path], DistillConfig]) -> DistillConfig:
    """Settings of a run on it."""
    return make_config(kitti)


@pytest.fixture
def teacher(tmp_path: Path, make_model: Callable[..., Model]) -> Path:
    """The checkpoint of a small teacher."""
    path = tmp_path / "teacher.safetensors"
    save_model(path, make_model(preset="edge-small", seed=4), command="a test")
    return path


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _joined(
    rank: int, count: int, port: int, errors: Any, function: Callable[..., object], arguments: Any
) -> None:
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    if count > 1:
        os.environ |= {key: str(value) for key, value in (ranks | address).items()}
    try:
        function(*arguments)
    except EdgeDetrError as error:
        errors.put((rank, str(error)))
        raise SystemExit(1) from None


@pytest.fixture
def started() -> Iterator[Callable[..., tuple[list[Any], Any]]]:
    """Starts a function in processes of one run; returns them, and a queue of their errors."""
    context = get_context("fork")
    running: list[Any] = []

    def start(
        count: int, function: Callable[..., object], *arguments: object
    ) -> tuple[list[Any], Any]:
        port, errors = _port(), context.SimpleQueue()
        some = [
            context.Process(target=_joined, args=(i, count, port, errors, function, arguments))
            for i in range(count)
        ]
        running.extend(some)
        for process in some:
            process.start()
        return some, errors

    yield start
    for process in running:
        process.kill()


@pytest.fixture
def run_of_processes(started: Callable[..., tuple[list[Any], Any]]) -> Callable[..., list[int]]:
    """Runs a function in processes of one run to the end; returns their exit statuses."""

    def finish(count: int, function: Callable[..., object], *arguments: object) -> list[int]:
        some, _ = started(count, function, *arguments)
        for process in some:
            process.join(300)
        return [process.exitcode for process in some]

    return finish


@pytest.fixture
def steepest_descent(monkeypatch):
    """Lets runs move weights by their gradients; Adam would by the signs of rounding."""

    def optimizer_of(trainee, config):
        return torch.optim.SGD(parameter_groups(trainee, config))

    monkeypatch.setattr("edgedetr.distill.recipe.optimizer_of", optimizer_of)


@pytest.fixture
def logged():
    """Reads what a run logged of one kind."""

    def read(out, kind="step"):
        lines = (out / "log.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["kind"] == kind]

    return read


@pytest.fixture
def check_same_losses(logged):
    """Holds every term that two runs logged to be the same, but for rounding."""

    def check(one, two, steps):
        one, two = logged(one), logged(two)
        assert len(one) == len(two) == steps
        for mine, theirs in zip(one, two, strict=True):
            assert mine.keys() == theirs.keys()
            for term in mine.keys() - {"kind", "seconds"}:
                assert theirs[term] == pytest.approx(mine[term], rel=1e-4, abs=1e-4), term

    return check


@pytest.fixture
def rated(monkeypatch):
    """Lets evaluations give these AP, in turn, and the last one again and again."""

    def rate(values):
        left = list(values)

        def measure(_):
            ap = left.pop(0) if len(left) > 1 else left[0]
            return {"ap": ap, "ap50": ap}

        monkeypatch.setattr(TrainingLoop, "_measure", measure)

    return rate
