import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgedetr.distill import recipe
from edgedetr.distill.checkpoint import load_model, save_model
from edgedetr.distill.config import OptimizerConfig
from edgedetr.distill.trainee import Trainee
from edgedetr.runtime.errors import ArtifactError, EdgeDetrError
from edgedetr.runtime.manifest import read_manifest


def test_a_run_leaves_a_student_its_manifest_its_metrics_and_its_log(config, teacher, tmp_path):
    out = tmp_path / "run"
    config = replace(config, teacher=str(teacher), methods=("clock",))
    metrics = recipe.train(config, out, "a command")
    student = load_model(out / "student.safetensors")
    assert student.spec.class_names == config.data.classes
    assert not any("adapter" in k or "teacher" in k for k in student.network.state_dict())
    manifest = read_manifest(out / "student.safetensors")
    assert [p.name for p in manifest.parents] == ["teacher.safetensors"]
    assert manifest.command == "a command"
    assert json.loads((out / "metrics.json").read_text())["metrics"] == metrics
    lines = [json.loads(x) for x in (out / "log.jsonl").read_text().splitlines()]
    steps = [x for x in lines if x["kind"] == "step"]
    assert [x["step"] for x in steps] == [0, 1, 2, 3, 4, 5]
    assert {"clock_lcmd", "clock_tcld_class", "loss_vfl", "loss", "lr"} <= set(steps[0])
    assert 0 < sum(x["seconds"] for x in steps) < metrics["seconds"]
    assert [x["epoch"] for x in lines if x["kind"] == "evaluation"] == [1, 2]
    assert not (out / "state.safetensors").exists()


def test_a_killed_run_goes_on_with_the_same_result(config, teacher, tmp_path, monkeypatch):
    config = replace(config, teacher=str(teacher), methods=("clock",))
    recipe.train(config, tmp_path / "whole", "a command")
    real, calls = recipe._Run._step, []

    def killed(self, *args):
        calls.append(args)
        if len(calls) == 4:  # the second step of the second epoch
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(recipe._Run, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(config, tmp_path / "killed", "a command")
    monkeypatch.setattr(recipe._Run, "_step", real)
    recipe.train(config, tmp_path / "killed", "a command")
    whole, killed_then = (
        load_file(tmp_path / d / "student.safetensors") for d in ("whole", "killed")
    )
    for key, value in whole.items():
        assert torch.equal(value, killed_then[key]), key

    def losses(run):
        lines = (tmp_path / run / "log.jsonl").read_text().splitlines()
        return [(x["step"], x["loss"]) for x in map(json.loads, lines) if x["kind"] == "step"]

    assert losses("killed") == losses("whole")


def test_a_state_of_another_config_is_refused(config, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    short = replace(config, epochs=2, eval_every=5)
    real = recipe._Run._evaluate
    monkeypatch.setattr(recipe._Run, "_evaluate", stop)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(short, tmp_path / "run", "a command")
    monkeypatch.setattr(recipe._Run, "_evaluate", real)
    with pytest.raises(ArtifactError, match="another config \\(seed was 0, is 1\\)"):
        recipe.train(replace(short, seed=1), tmp_path / "run", "a command")


def test_a_damaged_state_is_one_line(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.safetensors").write_bytes(b"not a state")
    with pytest.raises(ArtifactError, match="no readable state"):
        recipe.train(config, tmp_path / "run", "a command")


def test_training_changes_the_student_and_lowers_the_loss(config, tmp_path):
    config = replace(config, epochs=12, eval_every=12)
    recipe.train(config, tmp_path / "run", "a command")
    lines = [json.loads(x) for x in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [x["loss"] for x in lines if x["kind"] == "step"]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_splits_without_any_object_train_and_evaluate(config, kitti, tmp_path):
    for name in ("train", "val"):
        (kitti / f"ImageSets/{name}.txt").write_text("000005\n", encoding="utf-8")
    metrics = recipe.train(replace(config, epochs=1), tmp_path / "run", "a command")
    assert np.isnan(metrics["ap50"])
    assert json.loads((tmp_path / "run/metrics.json").read_text())["metrics"]["ap50"] is None


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_term(config, tmp_path, monkeypatch):
    real = Trainee.forward

    def broken(self, images, targets):
        detection, distillation = real(self, images, targets)
        return detection | {"loss_giou": detection["loss_giou"] * torch.nan}, distillation

    monkeypatch.setattr(Trainee, "forward", broken)
    with pytest.raises(
        EdgeDetrError, match=r"step 0: the loss is not finite \(loss_giou\) on frames 00000"
    ):
        recipe.train(config, tmp_path / "run", "a command")
    assert not (tmp_path / "run" / "student.safetensors").exists()


def test_a_teacher_of_other_classes_is_refused(config, teacher, tmp_path):
    other = replace(config.data, classes=("Car", "Van"))
    config = replace(config, data=other, teacher=str(teacher), methods=("clock",))
    with pytest.raises(
        ArtifactError, match=r"knows the classes Car, Pedestrian, Cyclist, not Van; .*\[class_map\]"
    ):
        recipe.train(config, tmp_path / "run", "a command")


def test_a_checkpoint_of_another_preset_is_refused(config, teacher, tmp_path):
    config = replace(config, student=replace(config.student, init=str(teacher)))
    with pytest.raises(
        ArtifactError, match="holds d_fine/edge-small, the config wants d_fine/edge"
    ):
        recipe.train(config, tmp_path / "run", "a command")


def test_training_starts_from_a_checkpoint(config, tmp_path, make_model):
    model = make_model(seed=9)
    save_model(tmp_path / "init.safetensors", model, command="a test")
    init = str(tmp_path / "init.safetensors")
    started = recipe.student_of(replace(config, student=replace(config.student, init=init)))
    for key, value in model.network.state_dict().items():
        assert torch.equal(started.network.state_dict()[key], value), key


def test_the_learning_rate_rises_and_falls():
    config = OptimizerConfig(warmup_steps=4)
    factors = [recipe.learning_rate_factor(s, 12, config) for s in range(12)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[8] == pytest.approx(0.5)
    assert 0 < factors[11] < 0.05
