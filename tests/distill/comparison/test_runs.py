import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from edgedetr.distill.cli import distill
from edgedetr.distill.comparison import runs as compare_module
from edgedetr.distill.comparison.runs import Plan, compare
from edgedetr.distill.methods import clock
from edgedetr.distill.training.loop import TrainingLoop
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.runtime.errors import ArtifactError, SettingsError, UnknownNameError, UsageError
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from pathlib import Path

ARMS = ("none", "clock")


class Watched:
    """What the runs began with and were shown, by folder."""

    def __init__(self, patch):
        self.weights: dict[Path, dict[str, torch.Tensor]] = {}
        self.frames: dict[Path, list[object]] = {}
        train, step = TrainingLoop.train, TrainingLoop._step

        def watched_train(run, data):
            student = run.state.trainee.network.state_dict()
            self.weights[run.out] = {k: v.clone() for k, v in student.items()}
            return train(run, data)

        def watched_step(run, batch, *place):
            seen = [(t.frame_id, t.boxes.tolist()) for t in batch.targets]
            self.frames.setdefault(run.out, []).append(seen)
            return step(run, batch, *place)

        patch.setattr(TrainingLoop, "train", watched_train)
        patch.setattr(TrainingLoop, "_step", watched_step)


@pytest.fixture(scope="module")
def plan(tmp_path_factory, make_kitti, make_config, make_model):
    """Two arms and two seeds on six frames."""
    folder = tmp_path_factory.mktemp("compare")
    teacher = folder / "teacher.safetensors"
    save_model(teacher, make_model(preset="edge-small", seed=4), command="a test")
    config = make_config(make_kitti(folder / "kitti"))
    config = replace(config, teacher=str(teacher), epochs=2, eval_every=1, seed=5)
    return Plan(config, ARMS, 2, folder / "whole")


@pytest.fixture(scope="module")
def whole(plan):
    """The comparison, trained in one go: what was said, and what the runs saw."""
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        watched = Watched(patch)
        compare(plan, plan.out / "comparison.json", "a command", said.append)
    return said, watched


def figures(path):
    """What two calls of the same comparison must agree on: all but times and machine."""
    found = json.loads((path / "comparison.json").read_text(encoding="utf-8"))
    for arm in found["arms"].values():
        assert arm.pop("ms_per_step") > 0
    return {k: v for k, v in found.items() if k != "machine"}


@pytest.mark.slow
def test_every_arm_is_trained_with_every_seed_and_told_of(plan, whole):
    said, _ = whole
    found = figures(plan.out)
    assert list(found["arms"]) == ["none", "clock"]
    assert (found["seeds"], found["steps"], found["command"]) == ([5, 6], 4, "a command")
    assert not {"methods", "seed"} & set(found["config"])
    for name in ARMS:
        records = [
            json.loads((plan.out / name / f"seed{k}" / "metrics.json").read_text()) for k in (5, 6)
        ]
        assert [r["config"]["methods"] for r in records] == [[name], [name]]
        assert [r["config"]["seed"] for r in records] == [5, 6]
        ap = [100 * r["metrics"]["ap"] for r in records]
        assert found["arms"][name]["ap"] == ap
    runs = [line.partition(":")[0] for line in said[1:]]
    assert said[0].startswith("teacher ")
    assert runs == [
        "[1/4] none, seed 5",
        "[2/4] clock, seed 5",
        "[3/4] none, seed 6",
        "[4/4] clock, seed 6",
    ]
    assert said[-1].endswith("0 left")
    page = (plan.out / "comparison.html").read_text(encoding="utf-8")
    assert all(page.count(f"</i>{name}</th>") == 1 for name in ARMS)
    assert page.count('<path class="band') == 2


@pytest.mark.slow
def test_runs_of_one_seed_begin_alike_and_see_the_same_frames(plan, whole):
    _, watched = whole
    for seed in (5, 6):
        first, second = (plan.out / name / f"seed{seed}" for name in ARMS)
        assert len(watched.frames[first]) == 4
        assert watched.frames[first] == watched.frames[second]
        weights, others = watched.weights[first], watched.weights[second]
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[key], others[key]) for key in weights)
    one, other = (plan.out / "none" / f"seed{seed}" for seed in (5, 6))
    assert watched.frames[one] != watched.frames[other]
    assert any(
        not torch.equal(value, watched.weights[other][key])
        for key, value in watched.weights[one].items()
    )


@pytest.mark.slow
@pytest.mark.usefixtures("whole")
def test_a_killed_comparison_goes_on_with_the_same_figures(plan, tmp_path, monkeypatch):
    killed = replace(plan, out=shutil.copytree(plan.out, tmp_path / "killed"))
    for name in ARMS:
        shutil.rmtree(killed.out / name / "seed6")
    real, calls = TrainingLoop._step, []

    def kill(run, *arguments):
        calls.append(run.out)
        if len(calls) == 4:  # the last step of the third run, after an epoch was saved
            raise KeyboardInterrupt
        return real(run, *arguments)

    monkeypatch.setattr(TrainingLoop, "_step", kill)
    with pytest.raises(KeyboardInterrupt):
        compare(killed, killed.out / "comparison.json", "a command", lambda _: None)
    assert figures(killed.out)["seeds"] == [5]
    assert "1 of 2 seeds are trained" in (killed.out / "comparison.html").read_text("utf-8")

    monkeypatch.setattr(TrainingLoop, "_step", real)
    watched = Watched(monkeypatch)
    said: list[str] = []
    compare(killed, killed.out / "comparison.json", "a command", said.append)
    assert {out: len(seen) for out, seen in watched.frames.items()} == {
        killed.out / "none" / "seed6": 2,  # from its second epoch on
        killed.out / "clock" / "seed6": 4,
    }
    assert [": already trained," in line for line in said[1:]] == [True, True, False, False]
    assert figures(killed.out) == figures(plan.out)
    for name in ARMS:
        student = f"{name}/seed6/student.safetensors"
        first, second = (load_file(folder / student) for folder in (plan.out, killed.out))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
@pytest.mark.usefixtures("whole")
def test_a_further_seed_leaves_the_others_as_they_are(plan, tmp_path, monkeypatch):
    out = shutil.copytree(plan.out, tmp_path / "copy")
    watched = Watched(monkeypatch)
    found = compare(replace(plan, out=out, seeds=3), out / "c.json", "a command", lambda _: None)
    assert set(watched.frames) == {out / name / "seed7" for name in ARMS}
    assert found.seeds == (5, 6, 7)


def test_the_teacher_is_scored_at_its_own_size_on_the_validation_split(
    plan, tmp_path, monkeypatch, make_model
):
    model = make_model(preset="edge-small")
    larger = replace(model, spec=replace(model.spec, input_hw=(96, 128)))
    save_model(tmp_path / "teacher.safetensors", larger, command="a test")

    def all_but_one(_model, inputs, _batch_size):
        assert inputs[0].pixels.shape == (3, 96, 128)
        assert [inputs[i].targets.frame_id for i in range(len(inputs))] == ["000003", "000004"]
        empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))
        car = np.array([[10.0 + 8 * 3, 10, 10 + 8 * 3 + 24, 40]], np.float32)
        return [Detections(car, np.ones(1, np.float32), np.zeros(1, int)), empty]

    monkeypatch.setattr("edgedetr.distill.evaluation.predict.detections_on", all_but_one)
    config = replace(plan.config, teacher=str(tmp_path / "teacher.safetensors"))
    # one of two cars: precision 1 up to recall 0.5, that is 51 of COCO's 101 points
    assert compare_module._teacher_ap(config) == pytest.approx(100 * 51 / 101)


@pytest.mark.parametrize(
    ("arms", "teacher", "error", "message"),
    [
        (("none", "clok"), True, UnknownNameError, "no 'clok' in methods; did you mean 'clock'?"),
        (("none", "none+clok"), True, UnknownNameError, "did you mean 'clock'?"),
        (("none", "clock+clock"), True, SettingsError, "the arm 'clock\\+clock': .*different"),
        (("none", "clock"), False, SettingsError, "the arm 'clock': .* needs a teacher checkpoint"),
        (("none", "clock"), "none.safetensors", ArtifactError, "no checkpoint none.safetensors"),
        (("none", ""), True, UnknownNameError, "no '' in methods"),
    ],
)
def test_a_wrong_arm_stops_before_any_training(plan, tmp_path, arms, teacher, error, message):
    path = plan.config.teacher if teacher is True else teacher or ""
    wrong = Plan(replace(plan.config, teacher=path), arms, 2, tmp_path / "out")
    with pytest.raises(error, match=message):
        compare(wrong, tmp_path / "c.json", "a command", lambda _: None)
    assert not list(tmp_path.iterdir())


def test_an_arm_that_is_there_twice_is_refused(plan):
    with pytest.raises(UsageError, match=r"'kd\+clock' is listed twice"):
        replace(plan, arms=("none", "clock+kd", "kd+clock"))


def test_a_pair_that_a_method_does_not_take_stops_before_any_training(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "supports", lambda _student, _teacher: False)
    with pytest.raises(
        UsageError, match="'clock' does not support a d_fine student with a d_fine teacher"
    ):
        compare(replace(plan, out=tmp_path / "out"), tmp_path / "c", "a command", lambda _: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("whole")
def test_a_finished_run_of_another_config_is_refused(plan):
    student = replace(plan.config.student, resize="letterbox")
    other = replace(plan, config=replace(plan.config, student=student))
    message = r"another config \(student.resize was 'stretch', is 'letterbox'\); choose"
    with pytest.raises(ArtifactError, match=message):
        compare(other, plan.out / "other.json", "a command", lambda _: None)


@pytest.mark.slow
@pytest.mark.usefixtures("whole")
def test_a_finished_run_of_another_teacher_is_refused(plan, make_model):
    path = plan.out.parent / "teacher.safetensors"
    before = path.read_bytes()
    save_model(path, make_model(preset="edge-small", seed=9), command="a test")
    with pytest.raises(ArtifactError, match=r"none/seed5 is .* another config \(teacher was "):
        compare(plan, plan.out / "other.json", "a command", lambda _: None)
    path.write_bytes(before)


@pytest.mark.slow
def test_the_command_trains_and_prints_the_table(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(
        f'epochs = 2\nbatch_size = 2\n[data]\nroot = "{config.data.root}"\n', encoding="utf-8"
    )
    arguments = "compare c.toml --methods none --seeds 1 --set epochs=1 --json figures.json"
    arguments += " --set student.input_hw=[64,96]"
    done = CliRunner().invoke(distill, arguments.split(), catch_exceptions=False)
    assert done.exit_code == 0
    assert "[1/1] none, seed 0: trained, AP" in done.output
    assert "Open runs/compare-c/comparison.html" in done.output
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert (list(found["arms"]), found["gain"], found["teacher_ap"]) == (["none"], {}, None)
    assert found["config"]["epochs"] == 1
