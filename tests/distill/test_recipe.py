import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgedetr.distill import recipe
from edgedetr.distill.training import network_inputs, run_state
from edgedetr.distill.training.loop import TrainingLoop
from edgedetr.distill.training.run_log import RunLog
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.runtime.commands.signals import handled
from edgedetr.runtime.errors import ArtifactError, DataError
from edgedetr.runtime.manifest import read_manifest


@pytest.fixture(scope="module")
def clock_config(tmp_path_factory, make_kitti, make_config, make_model):
    """Settings of a run of six steps under a teacher."""
    folder = tmp_path_factory.mktemp("clock")
    teacher = folder / "teacher.safetensors"
    save_model(teacher, make_model(preset="edge-small", seed=4), command="a test")
    config = make_config(make_kitti(folder / "kitti"))
    return replace(config, teacher=str(teacher), methods=("clock",))


@pytest.fixture(scope="module")
def whole(clock_config, tmp_path_factory):
    """The folder of such a run that nothing interrupted, and the metrics that it returned."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, recipe.train(clock_config, out, "a command")


@pytest.mark.slow
def test_a_run_leaves_a_student_its_manifest_its_metrics_and_its_log(clock_config, whole):
    out, metrics = whole
    config = clock_config
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
def test_a_killed_run_goes_on_with_the_same_result(clock_config, whole, tmp_path, monkeypatch):
    config, folders = clock_config, (whole[0], tmp_path / "killed")
    real, calls = TrainingLoop._step, []

    def killed(self, *args):
        calls.append(args)
        if len(calls) == 4:  # the second step of the second epoch
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(TrainingLoop, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(config, tmp_path / "killed", "a command")
    monkeypatch.setattr(TrainingLoop, "_step", real)
    recipe.train(config, tmp_path / "killed", "a command")
    first, second = (load_file(folder / "student.safetensors") for folder in folders)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key

    def losses(folder):
        lines = (folder / "log.jsonl").read_text().splitlines()
        return [(x["step"], x["loss"]) for x in map(json.loads, lines) if x["kind"] == "step"]

    assert losses(folders[0]) == losses(folders[1])
    files = [(folder / "student.safetensors").read_bytes() for folder in folders]
    assert files[0] == files[1]


def test_a_state_of_another_config_is_refused(config, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    short = replace(config, epochs=2, eval_every=5)
    real = TrainingLoop._evaluate
    monkeypatch.setattr(TrainingLoop, "_evaluate", stop)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(short, tmp_path / "run", "a command")
    monkeypatch.setattr(TrainingLoop, "_evaluate", real)
    with pytest.raises(ArtifactError, match="another config \\(seed was 0, is 1\\)"):
        recipe.train(replace(short, seed=1), tmp_path / "run", "a command")


def test_a_damaged_state_is_one_line(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.safetensors").write_bytes(b"not a state")
    with pytest.raises(ArtifactError, match="no readable state"):
        recipe.train(config, tmp_path / "run", "a command")


def stopped_in(step, out, config, monkeypatch):
    """Train until the optimizer step of that number is to be taken."""
    real = TrainingLoop._step

    def stop(self, batch, number, *rest):
        if number == step:
            raise KeyboardInterrupt
        return real(self, batch, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", stop)
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
    assert f"{out}: up to date" in capsys.readouterr().out
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


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_a_cut_validation_picture_is_met_before_the_first_step(
    config, kitti, tmp_path, monkeypatch, limit
):
    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", limit)
    path = kitti / "training/image_2/000004.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"000004\.png: not a whole PNG"):
        recipe.train(config, tmp_path / "run", "a command")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_full_disk_leaves_a_run_that_goes_on(config, tmp_path, monkeypatch):
    config, out = replace(config, epochs=2, eval_every=2), tmp_path / "run"
    stopped_in(2, out, config, monkeypatch)
    real = RunLog._write

    def torn(self, kind, step, epoch, figures):
        if step == 3:
            self._file.write(json.dumps({"kind": kind, "step": step, "epoch": epoch})[:17])
            self._file.flush()
            raise OSError(28, "No space left on device", str(self._path))
        real(self, kind, step, epoch, figures)

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
    followed = {"log.jsonl", "tensorboard", "run.json", "index.html"}
    assert {p.name for p in out.iterdir()} == {"state.safetensors", *followed}
    assert recipe.train(config, out, "a command")["ap"] >= 0
