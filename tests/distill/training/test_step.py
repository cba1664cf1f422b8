"""One step: precisions, passes, and what is read from the device."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from edgedetr.distill.config import StudentConfig
from edgedetr.distill.recipe import train
from edgedetr.distill.step_config import StepConfig
from edgedetr.distill.training.step import TYPES


def _steps(out):
    records = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == "step"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(
    ("family", "methods"),
    [("d_fine", ("clock", "kd_detr")), ("faster_rcnn", ("fgd", "drkd")), ("dino", ("none",))],
)
def test_low_precisions_train_without_nan_near_the_losses_of_fp32(
    config, teacher, tmp_path, family, methods, precision
):
    config = replace(
        config,
        student=StudentConfig(family=family, preset="edge-tiny", input_hw=(64, 96)),
        teacher="" if methods == ("none",) else str(teacher),
        methods=methods,
        epochs=1,
    )
    train(config, tmp_path / "fp32", "a test")

    train(replace(config, train=StepConfig(precision=precision)), tmp_path / "low", "a test")

    own, low = _steps(tmp_path / "fp32"), _steps(tmp_path / "low")
    assert len(own) == len(low) == 2
    assert low[0]["loss"] == pytest.approx(own[0]["loss"], rel=0.05)
    assert low[0]["loss"] != own[0]["loss"]
    assert all(value == value for step in low for value in step.values())


def test_precisions_are_those_of_the_settings():
    assert {StepConfig(precision=name).precision for name in TYPES} == {"fp32", "bf16", "fp16"}


def test_a_state_in_fp16_keeps_the_scale_of_the_loss(config, tmp_path):
    low = replace(config, train=StepConfig(precision="fp16"), epochs=2, eval_every=2)

    train(low, tmp_path / "whole", "a test")

    assert [step["step"] for step in _steps(tmp_path / "whole")] == [0, 1, 2, 3]


def test_every_weight_that_trains_in_fp32_trains_in_bf16(config, teacher, tmp_path, monkeypatch):
    trained = {}

    def checked(self, names, values, norm):
        named = self.state.trainee.named_parameters()
        trained[self.config.precision] = {n for n, p in named if p.grad is not None}
        return plain(self, names, values, norm)

    from edgedetr.distill.training.step import TrainingStep

    plain = TrainingStep._checked
    monkeypatch.setattr(TrainingStep, "_checked", checked)
    config = replace(config, teacher=str(teacher), methods=("clock",), epochs=1)
    for precision in ("fp32", "bf16"):
        step = StepConfig(precision=precision)
        train(replace(config, train=step), tmp_path / precision, "a test")

    assert trained["bf16"] == trained["fp32"]
    assert len(trained["fp32"]) > 100


def test_a_step_of_d_fine_reads_its_device_for_finiteness_matching_and_the_log(
    config, tmp_path, monkeypatch
):
    read = []

    def counted(name):
        plain = getattr(torch.Tensor, name)

        def reads(self, *arguments, **named):
            read.append(name)
            return plain(self, *arguments, **named)

        return reads

    from edgedetr.distill.training.step import TrainingStep

    take = TrainingStep.take

    def taken(self, *arguments):
        with pytest.MonkeyPatch.context() as patches:
            for name in ("item", "cpu", "__bool__", "__int__", "__float__", "nonzero", "tolist"):
                patches.setattr(torch.Tensor, name, counted(name))
            read.clear()
            found = take(self, *arguments)
        reads.append([name for name in read if name != "tolist"])
        return found

    reads = []
    monkeypatch.setattr(TrainingStep, "take", taken)
    train(replace(config, epochs=1), tmp_path, "a test")

    assert reads[-1] == []
