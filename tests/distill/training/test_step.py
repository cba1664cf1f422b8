"""One step: precisions, passes, and what is read from the device."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgedetr.distill import recipe
from edgedetr.distill.config import StudentConfig
from edgedetr.distill.optimizer_config import OptimizerConfig
from edgedetr.distill.step_config import StepConfig
from edgedetr.distill.training.step import TrainingStep


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
    recipe.train(config, tmp_path / "fp32", "a test")

    recipe.train(replace(config, train=StepConfig(precision=precision)), tmp_path / "low", "a test")

    own, low = _steps(tmp_path / "fp32"), _steps(tmp_path / "low")
    assert len(own) == len(low) == 2
    assert low[0]["loss"] == pytest.approx(own[0]["loss"], rel=0.05)
    assert low[0]["loss"] != own[0]["loss"]
    assert all(math.isfinite(value) for step in low for _, value in _figures(step))


def _figures(step):
    return [(name, value) for name, value in step.items() if name != "kind"]


def test_a_run_in_fp16_goes_on_with_the_scale_of_its_loss(config, tmp_path, monkeypatch, interrupt):
    """A scale of 4 doubles at each of four steps but where it overflows: one would make it 8."""
    scalers = []

    def growing(_, device):
        scalers.append(torch.amp.GradScaler(device.type, init_scale=4.0, growth_interval=1))
        return scalers[-1]

    monkeypatch.setattr(recipe, "scaler_of", growing)
    low = replace(config, train=StepConfig(precision="fp16"), epochs=2, save_every_steps=1)

    recipe.train(low, tmp_path / "whole", "a test")
    with pytest.raises(KeyboardInterrupt):
        recipe.train(low, tmp_path / "killed", "a test", watchers=[interrupt(2)])
    recipe.train(low, tmp_path / "killed", "a test")

    whole, _, resumed = (scaler.get_scale() for scaler in scalers)
    assert resumed == whole > 8.0
    students = [tmp_path / name / "student.safetensors" for name in ("whole", "killed")]
    assert students[0].read_bytes() == students[1].read_bytes()


def test_passes_one_after_another_train_as_one(config, teacher, tmp_path):
    """Two steps of four images at once, and in three passes of one and two; no norm trains."""
    config = replace(
        config,
        optimizer=OptimizerConfig(learning_rate=1e-6, warmup_steps=0, frozen_stages=3),
        student=StudentConfig(family="dab_detr", preset="edge-tiny", input_hw=(64, 96)),
        teacher=str(teacher),
        methods=("clock",),
        epochs=2,
        batch_size=4,
    )
    found = {}
    for passes in (1, 3):
        out = tmp_path / f"{passes}"
        recipe.train(replace(config, train=StepConfig(accumulate=passes)), out, "a test")
        found[passes] = _steps(out)
    for mine, theirs in zip(found[1], found[3], strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in _figures(mine):
            if name != "seconds":
                assert theirs[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_every_weight_that_trains_in_fp32_trains_in_bf16(config, teacher, tmp_path, monkeypatch):
    trained = {}

    def packed(self, values, norm):
        named = self.state.trainee.named_parameters()
        trained[self.config.precision] = {n for n, p in named if p.grad is not None}
        return plain(self, values, norm)

    plain = TrainingStep._packed
    monkeypatch.setattr(TrainingStep, "_packed", packed)
    config = replace(config, teacher=str(teacher), methods=("clock",), epochs=1)
    for precision in ("fp32", "bf16"):
        step = StepConfig(precision=precision)
        recipe.train(replace(config, train=step), tmp_path / precision, "a test")

    assert trained["bf16"] == trained["fp32"]
    assert len(trained["fp32"]) > 100


def test_a_step_of_d_fine_reads_its_device_once_in_matching(config, tmp_path, monkeypatch):
    """With the costs come what is finite of the outputs, and the terms of the step before."""
    read: list[str] = []

    def counted(plain):
        def reads(self, *arguments, **named):
            caller = Path(sys._getframe(1).f_code.co_filename)
            if "edgedetr" in caller.parts and "site-packages" not in caller.parts:
                read.append(caller.name)
            return plain(self, *arguments, **named)

        return reads

    take = TrainingStep.take

    def taken(self, *arguments):
        with pytest.MonkeyPatch.context() as patches:
            for name in ("item", "cpu", "__bool__", "__int__", "__float__", "nonzero", "tolist"):
                patches.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
            read.clear()
            return take(self, *arguments)

    monkeypatch.setattr(TrainingStep, "take", taken)
    recipe.train(replace(config, epochs=1), tmp_path, "a test")

    assert read == ["device_reads.py"]
    assert [step["step"] for step in _steps(tmp_path)] == [0, 1]
