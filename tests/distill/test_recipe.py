import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgedetr.distill import recipe
from edgedetr.distill.config import OptimizerConfig
from edgedetr.distill.training import loader, run_state
from edgedetr.distill.training.distillation_model import Trainee
from edgedetr.distill.training.run_log import RunLog
from edgedetr.distill.types import LossTerm
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.runtime.commands.signals import handled
from edgedetr.runtime.errors import ArtifactError, DataError, EdgeDetrError
from edgedetr.runtime.manifest import read_manifest

GIOU = LossTerm("loss_giou")


@pytest.mark.slow
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


@pytest.mark.slow
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
    first, second = ((tmp_path / d / "student.safetensors") for d in ("whole", "killed"))
    assert first.read_bytes() == second.read_bytes()


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


@pytest.mark.slow
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
        return detection | {GIOU: detection[GIOU] * torch.nan}, distillation

    monkeypatch.setattr(Trainee, "forward", broken)
    with pytest.raises(
        EdgeDetrError, match=r"step 0: the loss is not finite \(loss_giou\) on frames 00000"
    ):
        recipe.train(config, tmp_path / "run", "a command")
    assert not (tmp_path / "run" / "student.safetensors").exists()


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_are_lost(
    config, tmp_path, monkeypatch
):
    real = Trainee.forward

    def broken(self, images, targets):
        detection, distillation = real(self, images, targets)
        root = detection[GIOU].clamp(min=0) * 0  # sqrt'(0) is infinite, times 0 not a number
        return detection | {GIOU: detection[GIOU] + root.sqrt()}, distillation

    monkeypatch.setattr(Trainee, "forward", broken)
    with pytest.raises(
        EdgeDetrError, match=r"step 0: the loss is not finite \(gradient\) on frames"
    ):
        recipe.train(config, tmp_path / "run", "a command")


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


def stopped_in(step, out, config, monkeypatch):
    """Train until the optimizer step of that number is to be taken."""
    real = recipe._Run._step

    def stop(self, images, targets, number, total):
        if number == step:
            raise KeyboardInterrupt
        return real(self, images, targets, number, total)

    with monkeypatch.context() as patch:
        patch.setattr(recipe._Run, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            recipe.train(config, out, "a command")


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again_nor_overwritten(config, tmp_path, capsys):
    config, out = replace(config, epochs=1), tmp_path / "run"
    first = recipe.train(config, out, "a command")
    before = contents(out)
    capsys.readouterr()
    same = replace(config, eval_every=5, data=replace(config.data, workers=2))
    assert recipe.train(same, out, "another command") == first
    assert f"{out}: is up to date" in capsys.readouterr().out
    for other, key in (
        (replace(config, seed=1), "seed was 0, is 1"),
        (replace(config, epochs=2), "epochs was 1, is 2"),
        (
            replace(config, optimizer=replace(config.optimizer, weight_decay=0.5)),
            r"optimizer\.weight_decay was 0\.0001, is 0\.5",
        ),
    ):
        with pytest.raises(ArtifactError, match=rf"a finished run of another config \({key}\)"):
            recipe.train(other, out, "a command")
    assert contents(out) == before


@pytest.mark.slow
def test_resume_cares_for_what_was_learnt_from_and_not_for_what_changes_no_weight(
    config, kitti, teacher, tmp_path, monkeypatch
):
    config = replace(config, teacher=str(teacher), epochs=2, eval_every=1)
    stopped_in(3, tmp_path / "run", config, monkeypatch)
    label = kitti / "training/label_2/000001.txt"
    text = label.read_text(encoding="utf-8")
    label.write_text(text.replace("Car", "Cyclist"), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"unfinished run of another config .*train_split: lab"):
        recipe.train(config, tmp_path / "run", "a command")
    label.write_text(text, encoding="utf-8")
    weights = teacher.read_bytes()
    teacher.write_bytes(weights[:-4] + b"\0\0\0\0")
    with pytest.raises(ArtifactError, match=r"unfinished run of another config \(teacher was "):
        recipe.train(config, tmp_path / "run", "a command")
    teacher.write_bytes(weights)
    monkeypatch.chdir(tmp_path)
    data = replace(config.data, root="kitti/../kitti", workers=1)
    recipe.train(replace(config, data=data, eval_every=2), tmp_path / "run", "a command")
    recipe.train(config, tmp_path / "whole", "a command")
    first, second = (tmp_path / d / "student.safetensors" for d in ("run", "whole"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_an_evaluation_that_a_kill_cut_short_is_made_up_for(config, tmp_path, monkeypatch):
    config = replace(config, epochs=2, eval_every=1)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recipe._Run, "_measure", stop)
        with pytest.raises(KeyboardInterrupt):
            recipe.train(config, tmp_path / "run", "a command")
    recipe.train(config, tmp_path / "run", "a command")
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    seen = [(r["kind"], r["epoch"]) for r in map(json.loads, lines)]
    epochs = [[("step", epoch), ("step", epoch), ("evaluation", epoch)] for epoch in (0, 1)]
    assert seen == [*epochs[0], *epochs[1]]


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_a_cut_validation_picture_is_met_before_the_first_step(
    config, kitti, tmp_path, monkeypatch, limit
):
    monkeypatch.setattr(loader, "MEMORY_LIMIT_BYTES", limit)
    path = kitti / "training/image_2/000004.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"000004\.png: not a whole PNG"):
        recipe.train(config, tmp_path / "run", "a command")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("family", "preset"),
    [
        ("d_fine", "edge-micro"),
        ("deimv2", "edge-tiny"),
        ("dab_detr", "edge-tiny"),
        ("faster_rcnn", "edge-small"),
        ("fcos", "edge-small"),
    ],
)
def test_a_run_that_diverges_is_one_line_and_goes_on_from_its_last_epoch(
    config, tmp_path, family, preset
):
    student = replace(config.student, family=family, preset=preset)
    optimizer = replace(config.optimizer, learning_rate=1e30, warmup_steps=0)
    config = replace(config, student=student, optimizer=optimizer, epochs=2)
    with pytest.raises(
        EdgeDetrError, match=r"step \d: the loss is not finite \(.+\) on frames 00000\d.*lower"
    ) as caught:
        recipe.train(config, tmp_path / "run", "a command")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", ["fcos", "faster_rcnn"])
def test_a_run_that_diverged_in_its_last_step_is_one_line_when_it_is_evaluated(
    config, tmp_path, family
):
    student = replace(config.student, family=family, preset="edge-small")
    optimizer = replace(config.optimizer, learning_rate=1e30, warmup_steps=0)
    config = replace(config, student=student, optimizer=optimizer, epochs=1, batch_size=4)
    with pytest.raises(EdgeDetrError, match=r"the student's .* are not finite on the validation"):
        recipe.train(config, tmp_path / "run", "a command")
    assert not (tmp_path / "run" / "student.safetensors").exists()


@pytest.mark.slow
def test_a_full_disk_leaves_a_run_that_goes_on(config, tmp_path, monkeypatch):
    config, out = replace(config, epochs=2, eval_every=2), tmp_path / "run"
    stopped_in(2, out, config, monkeypatch)
    real = RunLog._write

    def torn(self, record):
        if record["step"] == 3:
            self._file.write(json.dumps(record)[:17])
            self._file.flush()
            raise OSError(28, "No space left on device", str(self._path))
        real(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "_write", torn)
        with pytest.raises(OSError, match="No space left"):
            recipe.train(config, out, "a command")
    assert not (out / "log.jsonl").read_text(encoding="utf-8").endswith("\n")
    recipe.train(config, out, "a command")
    recipe.train(config, tmp_path / "whole", "a command")
    first, second = (d / "student.safetensors" for d in (out, tmp_path / "whole"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_sigterm_leaves_a_run_that_goes_on_and_nothing_half_written(config, tmp_path, monkeypatch):
    data = replace(config.data, workers=1)
    config, out = replace(config, data=data, epochs=2, eval_every=2), tmp_path / "run"

    def end():
        raise SystemExit(143)

    def terminated(tensors, temporary, metadata):
        save_file(tensors, temporary, metadata)
        if metadata["epoch"] == "2":
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, handled("SIGTERM", once=True, action=end):
        patch.setattr(run_state, "save_file", terminated)
        with pytest.raises(SystemExit):
            recipe.train(config, out, "a command")
    assert {p.name for p in out.iterdir()} == {"state.safetensors", "log.jsonl", "tensorboard"}
    assert recipe.train(config, out, "a command")["ap"] >= 0
