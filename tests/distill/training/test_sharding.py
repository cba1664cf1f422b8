"""Two processes on the CPU, joined by gloo, split weights between them and train as one does."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from edgedetr.distill.config import StudentConfig
from edgedetr.distill.evaluation.predict import evaluate
from edgedetr.distill.optimizer_config import OptimizerConfig
from edgedetr.distill.recipe import train
from edgedetr.distill.step_config import StepConfig
from edgedetr.distill.training.loader import open_split
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.qat import uncalibrated
from edgedetr.distill.training.run_state import RunState
from edgedetr.distill.training.sharding import forget_unused, fsdp_plugin, own_slice
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.runtime.errors import DataError, UsageError

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.fixture
def split(monkeypatch):
    """Lets Accelerate be told to use FSDP, and afterwards not."""

    def tell(*, uses):
        for name, value in FSDP.items():
            if uses:
                monkeypatch.setenv(name, value)
            else:
                monkeypatch.delenv(name, raising=False)

    return tell


@pytest.fixture
def taught(config, teacher):
    """Settings of a run with a teacher."""
    return replace(config, teacher=str(teacher))


@pytest.mark.usefixtures("steepest_descent")
def test_two_processes_that_split_weights_log_the_losses_of_one(
    taught, run_of_processes, split, tmp_path, check_same_losses
):
    config = replace(
        taught,
        methods=("clock", "kd_detr"),
        train=StepConfig(precision="fp16", accumulate=2),
        student=StudentConfig(family="dino", input_hw=(64, 96)),
        optimizer=OptimizerConfig(learning_rate=2e-4, warmup_steps=0, frozen_stages=4),
        epochs=6,
        batch_size=4,
        eval_every=6,
    )

    train(config, tmp_path / "one", "a test")
    split(uses=True)
    assert run_of_processes(2, train, config, tmp_path / "two", "a test") == [0, 0]

    check_same_losses(tmp_path / "one", tmp_path / "two", 6)


class _Ended:
    """Ends a run that it follows when a step is logged."""

    def __init__(self, step):
        self._step = step

    def start(self, _): ...

    def step(self, step, *_):
        if step == self._step:
            raise DataError("the end")

    def evaluation(self, *_): ...

    def close(self): ...


def _weighed(config, out, *arguments):
    """Train, and note how many numbers of weights, moments and average this process keeps."""
    own_tensors = RunState.tensors

    def tensors(self):
        found = own_tensors(self)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        kept = {
            "weights": sum(own_slice(p).numel() for p in parameters),
            "of": sum(p.numel() for p in parameters),
            "moments": sum(
                own_slice(moment).numel()
                for moments in self.optimizer.state_dict()["state"].values()
                for name, moment in moments.items()
                if name != "step"
            ),
        }
        path = out.with_name(f"{out.name}-{os.environ['RANK']}.json")
        path.write_text(json.dumps(kept))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunState, "tensors", tensors)
        train(config, out, "a test", *arguments)


def test_a_split_run_goes_on_to_the_bit_and_ends_with_a_whole_student(
    taught, run_of_processes, split, tmp_path, logged
):
    """An adapter of a method learns, and the best student of two is kept."""
    config = replace(
        taught,
        methods=("fgd",),
        best_metric="ap",
        epochs=2,
        eval_every=1,
        save_every_steps=1,
    )
    split(uses=True)
    assert run_of_processes(2, _weighed, config, tmp_path / "whole") == [0, 0]
    ends = (uncalibrated, [_Ended(2)])
    assert run_of_processes(2, train, config, tmp_path / "ended", "a test", *ends) == [1, 1]
    shutil.copytree(tmp_path / "ended", tmp_path / "unsplit")
    assert run_of_processes(2, train, config, tmp_path / "ended", "a test") == [0, 0]
    split(uses=False)
    train(config, tmp_path / "unsplit", "a test")

    kept = [json.loads((tmp_path / f"whole-{rank}.json").read_text()) for rank in range(2)]
    for numbers in kept:
        assert numbers["weights"] == pytest.approx(numbers["of"] / 2, rel=0.1)
        assert numbers["moments"] == 2 * numbers["weights"]
    assert sum(numbers["weights"] for numbers in kept) == kept[0]["of"]
    whole, ended = (tmp_path / name / "student.safetensors" for name in ("whole", "ended"))
    assert whole.read_bytes() == ended.read_bytes()
    for name in ("whole", "unsplit"):
        assert [step["step"] for step in logged(tmp_path / name)] == list(range(4))
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())["metrics"]
        student = load_model(tmp_path / name / "student.safetensors")
        inputs = NetworkInputs(open_split(config.data, "val"), student.spec)
        assert metrics["ap"] == evaluate(student, inputs, config.batch_size)["ap"]


class _OtherProcess:
    """Stands for the sums of two processes, of which the other one used the last weight."""

    def total(self, value):
        return value + torch.tensor([0.0, 0.0, 1.0])


def test_weights_that_no_process_used_have_no_gradient():
    weights = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    for weight, gradient in zip(weights, ([0.0, -3.0], [0.0, 0.0], [0.0, 0.0]), strict=True):
        weight.grad = torch.tensor(gradient)

    forget_unused(weights, _OtherProcess())  # type: ignore[arg-type]

    assert [weight.grad is None for weight in weights] == [False, True, False]


def test_nothing_is_split_unless_accelerate_is_told_so(split):
    split(uses=False)
    assert fsdp_plugin() is None
    split(uses=True)
    plugin = fsdp_plugin()
    assert plugin is not None
    assert plugin.fsdp_version == 2


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FSDP_VERSION", "1", "--fsdp_version 2"),
        ("FSDP_OFFLOAD_PARAMS", "true", "unset fsdp_offload_params"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "set train.checkpointing = true instead"),
    ],
)
def test_what_fsdp_is_not_used_with_is_refused(split, monkeypatch, name, value, message):
    split(uses=True)
    monkeypatch.setenv(name, value)

    with pytest.raises(UsageError, match=message):
        fsdp_plugin()
