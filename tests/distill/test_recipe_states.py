"""Runs that are interrupted within an epoch, that keep their best, and that end early."""

import json
import os
import signal
from dataclasses import replace

import pytest

from edgedetr.distill import recipe
from edgedetr.distill.teacher_config import TeacherCacheConfig, TeacherInputConfig
from edgedetr.distill.training.loop import TrainingLoop
from edgedetr.distill.training.run_state import RunState
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.runtime.commands.signals import handled
from edgedetr.runtime.errors import ArtifactError, UsageError

EVERYTHING = "mosaic+mixup+copy_paste+scale_jitter+crop+strong"


@pytest.fixture(scope="module")
def long_config(tmp_path_factory, make_kitti, make_config, make_model):
    """Two epochs of six steps with every augmentation, several sizes and repeats."""
    folder = tmp_path_factory.mktemp("long")
    teacher = folder / "teacher.safetensors"
    save_model(teacher, make_model(preset="edge-small", seed=4), command="a test")
    config = make_config(make_kitti(folder / "kitti"))
    data = replace(
        config.data,
        augment=EVERYTHING,
        scales=(1.0, 1.34),
        repeat_threshold=1.0,
        no_aug_epochs=1,
        train_split="all",
    )
    return replace(
        config,
        data=data,
        teacher=str(teacher),
        methods=("clock",),
        epochs=2,
        batch_size=1,
        eval_every=2,
        save_every_steps=2,
        keep_states=2,
    )


@pytest.fixture(scope="module")
def whole(long_config, tmp_path_factory):
    """Such a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    recipe.train(long_config, out, "a command")
    return out


def losses(out):
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [(x["step"], x["loss"]) for x in map(json.loads, lines) if x["kind"] == "step"]


def interrupted(config, out, monkeypatch, step):
    """Train until that step is to be taken."""
    real = TrainingLoop._step

    def stop(self, batch, number, *rest):
        if number == step:
            raise KeyboardInterrupt
        return real(self, batch, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            recipe.train(config, out, "a command")


@pytest.mark.slow
def test_a_run_goes_on_within_an_epoch_with_the_same_result(
    long_config, whole, tmp_path, monkeypatch
):
    """Interrupted at steps 3 and 9 of 12, with loader processes the second time."""
    config, out = long_config, tmp_path / "killed"
    interrupted(config, out, monkeypatch, 3)
    names = {p.name for p in out.iterdir() if p.name.startswith("state")}
    assert names == {"state.safetensors"}
    with_workers = replace(config, data=replace(config.data, workers=2))
    interrupted(with_workers, out, monkeypatch, 9)
    assert (out / "state.1.safetensors").is_file()
    recipe.train(replace(with_workers, save_every_steps=0, keep_states=1), out, "a command")
    first, second = (d / "student.safetensors" for d in (whole, out))
    assert first.read_bytes() == second.read_bytes()
    assert losses(out) == losses(whole)
    assert not list(out.glob("state*"))


@pytest.mark.slow
def test_an_older_state_gives_the_same_result(long_config, whole, tmp_path, monkeypatch):
    config, out = long_config, tmp_path / "run"
    interrupted(config, out, monkeypatch, 5)
    (out / "state.1.safetensors").replace(out / "state.safetensors")
    recipe.train(config, out, "a command")
    first, second = (d / "student.safetensors" for d in (out, whole))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_sigterm_writes_a_state_within_the_epoch_and_ends(
    long_config, whole, tmp_path, monkeypatch, workers
):
    data = replace(long_config.data, workers=workers)
    config = replace(long_config, data=data, save_every_steps=0)
    out, real = tmp_path / "run", TrainingLoop._step

    def end():
        raise SystemExit(143)

    def preempted(self, batch, number, *rest):
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, batch, number, *rest)

    with monkeypatch.context() as patch, handled("SIGTERM", once=False, action=end):
        patch.setattr(TrainingLoop, "_step", preempted)
        with pytest.raises(SystemExit):
            recipe.train(config, out, "a command")
    assert [step for step, _ in losses(out)] == [0, 1, 2]
    loaded, real_load = [], RunState.load

    def load(self, path):
        loaded.append(real_load(self, path))
        return loaded[-1]

    with monkeypatch.context() as patch:
        patch.setattr(RunState, "load", load)
        recipe.train(config, out, "a command")
    assert loaded == [(0, 3)]
    first, second = (d / "student.safetensors" for d in (out, whole))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_the_best_student_is_what_a_run_leaves_also_after_a_kill(
    config, tmp_path, monkeypatch, rated
):
    config = replace(config, epochs=4, eval_every=1, best_metric="ap")
    rated([0.1, 0.5, 0.3, 0.2])
    metrics = recipe.train(config, tmp_path / "whole", "a command")
    assert metrics["ap"] == 0.5
    assert metrics["best_epoch"] == 2
    rated([0.1, 0.5])
    two = replace(config, epochs=4)
    interrupted(two, tmp_path / "killed", monkeypatch, 5)
    assert load_model(tmp_path / "killed" / "best.safetensors").spec.class_names
    rated([0.3, 0.2])
    recipe.train(config, tmp_path / "killed", "a command")
    first, second = (tmp_path / d / "student.safetensors" for d in ("whole", "killed"))
    assert first.read_bytes() == second.read_bytes()
    assert not list((tmp_path / "killed").glob("best*"))
    with pytest.raises(ArtifactError, match="eval_every was 1, is 2"):
        recipe.train(replace(config, eval_every=2), tmp_path / "whole", "a command")


@pytest.mark.slow
def test_a_run_that_gets_no_better_ends_early(config, tmp_path, rated):
    config = replace(config, epochs=9, eval_every=1, best_metric="ap", patience=2)
    rated([0.4, 0.1, 0.2, 0.9])
    metrics = recipe.train(config, tmp_path / "run", "a command")
    assert metrics["ap"] == 0.4
    assert len(losses(tmp_path / "run")) == 3 * 2
    assert recipe.train(config, tmp_path / "run", "a command")["best_epoch"] == 1


@pytest.mark.slow
def test_a_run_with_a_cache_goes_on_with_the_same_answers(config, teacher, tmp_path, interrupt):
    """The state after the first step comes with its answers; those of the second are made again."""
    data = replace(config.data, augment="strong")
    config = replace(config, data=data, teacher=str(teacher), methods=("clock",))
    students = {}
    for name in ("whole", "killed"):
        cache = TeacherCacheConfig(str(tmp_path / f"{name}-cache"), views=1, precision="fp32")
        run = replace(config, teacher_cache=cache, save_every_steps=1)
        if name == "killed":
            with pytest.raises(KeyboardInterrupt):
                recipe.train(run, tmp_path / name, "a command", watchers=[interrupt(1)])
            assert len(list((tmp_path / "killed-cache").glob("answers-*"))) == 1
        recipe.train(run, tmp_path / name, "a command")
        students[name] = (tmp_path / name / "student.safetensors").read_bytes()
    assert students["killed"] == students["whole"]


def test_a_run_that_its_device_augments_goes_on_with_the_same_pictures(
    config, tmp_path, monkeypatch
):
    data = replace(config.data, augment="strong", augment_on_device=True, workers=1)
    run = replace(config, data=data, epochs=2, save_every_steps=1)
    recipe.train(run, tmp_path / "whole", "a command")

    interrupted(run, tmp_path / "killed", monkeypatch, step=3)
    recipe.train(run, tmp_path / "killed", "a command")

    students = [tmp_path / name / "student.safetensors" for name in ("whole", "killed")]
    assert students[0].read_bytes() == students[1].read_bytes()
    plain = replace(run, data=replace(data, augment_on_device=False))
    recipe.train(replace(plain, epochs=1), tmp_path / "host", "a command")
    found = losses(tmp_path / "whole")[0][1]
    assert found == pytest.approx(losses(tmp_path / "host")[0][1], rel=0.02)


@pytest.mark.parametrize("why", ["the teacher's input differs", "a teacher cache is read"])
def test_a_device_does_not_augment_what_the_host_needs_augmented(config, tmp_path, teacher, why):
    run = replace(
        config,
        data=replace(config.data, augment_on_device=True),
        teacher=str(teacher),
        methods=("clock",),
        teacher_input=TeacherInputConfig(resize="stretch"),
    )
    if "cache" in why:
        run = replace(run, teacher_cache=TeacherCacheConfig(str(tmp_path / "cache")))
    else:
        run = replace(run, teacher_input=TeacherInputConfig(input_hw=(96, 128)))

    with pytest.raises(UsageError, match=f"data.augment_on_device: {why}"):
        recipe.train(run, tmp_path / "run", "a command")
