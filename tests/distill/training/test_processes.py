"""Two processes on the CPU, joined by gloo, train as one does."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace

import pytest
from safetensors.numpy import load_file

from edgedetr.distill.config import StudentConfig
from edgedetr.distill.dataset_shards import write_shards
from edgedetr.distill.optimizer_config import OptimizerConfig
from edgedetr.distill.recipe import train
from edgedetr.distill.teacher_config import TeacherCacheConfig
from edgedetr.distill.training import network_inputs
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.training.processes import Processes, processes_of_run
from edgedetr.distill.training.qat import uncalibrated
from edgedetr.distill.training.run_state import RunState
from edgedetr.distill.training.sampling import ALONE
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.runtime.errors import DataError

HW = (64, 96)
PAIRS = {
    "denoising and target queries with noise": (
        *("dino", "dino", ("clock",)),
        *({"clock": {"box_noise": 0.4, "label_noise": 0.2}}, 4),
    ),
    "random queries": ("dab_detr", "dab_detr", ("kd_detr",), {}, 3),
    "the queue of a contrast": (
        *("dab_detr", "faster_rcnn", ("g_detkd",), {"g_detkd": {"queue": 40}}, 3),
    ),
    "relations of objects, and a method held to a share": (
        *("fcos", "retinanet", ("fgd", "drkd"), {"fgd": {"share": 0.1}}, 4),
    ),
}
"""Student, teacher, methods and their settings, and stages of the backbone that stay as they are:
batch norms of grey frames and a few cells make much of a rounding, in one process too."""


@pytest.mark.usefixtures("steepest_descent")
@pytest.mark.parametrize("name", PAIRS)
def test_two_processes_log_the_losses_of_one_with_the_same_batches(
    config, run_of_processes, tmp_path, make_model, check_same_losses, name
):
    family, teaching, methods, settings, frozen = PAIRS[name]
    teacher = tmp_path / "teacher.safetensors"
    save_model(teacher, make_model(teaching, seed=4), command="a test")
    config = replace(
        config,
        student=StudentConfig(family=family, input_hw=HW),
        optimizer=OptimizerConfig(learning_rate=2e-4, warmup_steps=0, frozen_stages=frozen),
        teacher=str(teacher),
        methods=methods,
        method=settings,
        epochs=20,
        batch_size=3,  # one image and two
        eval_every=20,
    )

    assert run_of_processes(1, train, config, tmp_path / "one", "a test") == [0]
    assert run_of_processes(2, train, config, tmp_path / "two", "a test") == [0, 0]

    check_same_losses(tmp_path / "one", tmp_path / "two", 20)


def _evaluate_twice(config, path, out):
    """Evaluate a student whose detections all depend on the batch that an image is in."""
    from edgedetr.distill.evaluation.predict import detections_on, evaluate, evaluate_together
    from edgedetr.distill.training.loader import open_split
    from edgedetr.distill.training.network_inputs import NetworkInputs
    from edgedetr.distill.weights.checkpoint import load_model

    model = load_model(path)
    inputs = NetworkInputs(open_split(config.data, "train"), model.spec)
    with processes_of_run() as processes:
        shared = evaluate_together(model, inputs, 1, processes, lambda *_: None)
    assert len(detections_on(model, inputs, 1)) == 4
    (out / f"{processes.share.index}.json").write_text(
        json.dumps([shared, evaluate(model, inputs, 1)])
    )


def test_an_evaluation_by_two_processes_gives_each_the_figures_of_one(
    config, run_of_processes, tmp_path, teacher
):
    assert run_of_processes(2, _evaluate_twice, config, teacher, tmp_path) == [0, 0]

    (first, alone), (second, _) = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)
    )
    assert first == second == alone


def _killed_in_epoch_3(config, out):
    """Train, and let the second process be killed while the third epoch trains."""
    save = RunState.save
    epochs = []

    def saved(self, path, done, tensors):
        save(self, path, done, tensors)
        epochs.append(done.epochs)

    def every(self, value):
        found = plain(self, value)
        if self.share.index == 1 and (out / "state.safetensors").is_file():
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    plain = Processes.every
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "every", every)
        patch.setattr(RunState, "save", saved)
        train(config, out, "a test")


def test_a_killed_process_ends_the_run_in_one_line_and_it_goes_on_as_one(
    config, started, run_of_processes, tmp_path, logged
):
    config = replace(config, batch_size=4, epochs=4, eval_every=4)
    some, errors = started(2, _killed_in_epoch_3, config, tmp_path / "killed")
    begun = time.monotonic()
    for process in some:
        process.join(300)

    assert time.monotonic() - begun < 90
    assert [process.exitcode for process in some] == [1, -signal.SIGKILL]
    rank, line = errors.get()
    assert rank == 0
    assert errors.empty()
    assert line.startswith("another process of this run ended")
    assert "start the same command again" in line
    assert run_of_processes(2, train, config, tmp_path / "killed", "a test") == [0, 0]
    assert run_of_processes(2, train, config, tmp_path / "whole", "a test") == [0, 0]
    killed, whole = (
        (tmp_path / name / "student.safetensors").read_bytes() for name in ("killed", "whole")
    )
    assert killed == whole
    assert [r["step"] for r in logged(tmp_path / "killed")] == [0, 1, 2, 3]


def test_a_state_of_two_processes_goes_on_with_one(
    config, run_of_processes, started, tmp_path, logged
):
    config = replace(config, batch_size=4, epochs=4, eval_every=4)
    some, _ = started(2, _killed_in_epoch_3, config, tmp_path)
    for process in some:
        process.join(300)

    assert run_of_processes(1, train, config, tmp_path, "a test") == [0]

    assert [r["step"] for r in logged(tmp_path)] == [0, 1, 2, 3]


def _fails_in(index):
    with processes_of_run() as processes:

        def load():
            if processes.share.index == index:
                raise DataError("image 7 is damaged")
            return processes.share.index

        processes.every_of(load)


@pytest.mark.parametrize("index", [0, 1])
def test_what_fails_in_one_process_ends_all_and_is_said_once(started, index):
    some, errors = started(2, _fails_in, index)
    for process in some:
        process.join(300)

    assert [process.exitcode for process in some] == [1, 1]
    assert errors.get() == (index, "image 7 is damaged")
    assert errors.empty()


def test_one_process_is_the_whole_run():
    with processes_of_run() as processes:
        assert processes.share == ALONE
        assert processes.every(3) == [3]
        assert processes.every_of(lambda: 4) == [4]
        assert processes.from_main(lambda: 5) == 5
        assert processes.sums is None


def test_a_split_of_the_model_is_refused(monkeypatch, started):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    some, errors = started(2, _fails_in, 5)
    for process in some:
        process.join(300)

    assert [process.exitcode for process in some] == [1, 1]
    assert errors.get()[1].startswith("DEEPSPEED is not supported: the processes of a run split")


def test_fewer_images_than_processes_are_refused(config, started, tmp_path):
    some, errors = started(2, train, replace(config, batch_size=1), tmp_path, "a test")
    for process in some:
        process.join(300)

    assert [process.exitcode for process in some] == [1, 1]
    assert "a batch has 1 images of a kind" in errors.get()[1]


class _Killed:
    """Kills the first process of a run at its third step; leaves a file in each that it follows."""

    def __init__(self, out, *, kills):
        self.out, self.kills = out, kills

    def start(self, _):
        (self.out / f"followed-{os.environ['RANK']}").touch()

    def step(self, step, *_):
        if self.kills and step == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def evaluation(self, *_): ...

    def close(self): ...


def _answers(folder):
    """Return how many answers lie in a cache, and how many pictures they are for."""
    keys = [bytes(key) for path in folder.glob("answers-*") for key in load_file(path)["keys"]]
    return len(keys), len(set(keys))


@pytest.fixture
def config_of_shards(config, kitti, teacher, tmp_path):
    """Settings of eight steps on the frames in tar shards, with a teacher."""
    write_shards(kitti, tmp_path / "shards", "kitti", 1)
    data = replace(config.data, root=str(tmp_path / "shards"), format="shards", augment="strong")
    taught = replace(config, data=data, teacher=str(teacher), methods=("clock",))
    return replace(taught, save_every_steps=1, epochs=4)


def test_two_processes_share_shards_and_a_cache_skip_a_picture_and_go_on(
    config_of_shards, run_of_processes, tmp_path, monkeypatch, capfd, logged
):
    """Four pictures with two views, of which one breaks; killed after the state of two steps."""
    monkeypatch.setattr(network_inputs, "MEMORY_LIMIT_BYTES", 0)
    read, seen = NetworkInputs.__getitem__, []

    def broken(self, index):
        seen.append(index)
        if index == 2 and seen.count(2) > 1:
            raise DataError("third.png: not a whole PNG")
        return read(self, index)

    monkeypatch.setattr(NetworkInputs, "__getitem__", broken)
    for name in ("whole", "killed"):
        out, cache = tmp_path / name, TeacherCacheConfig(str(tmp_path / f"{name}-cache"), views=2)
        run = replace(config_of_shards, teacher_cache=cache)
        if name == "killed":
            ended = run_of_processes(
                2, train, run, out, "a test", uncalibrated, [_Killed(tmp_path, kills=True)]
            )
            assert ended == [-signal.SIGKILL, 1]
            capfd.readouterr()
        followers = [_Killed(tmp_path, kills=False)]
        assert run_of_processes(2, train, run, out, "a test", uncalibrated, followers) == [0, 0]

    students = [(tmp_path / n / "student.safetensors").read_bytes() for n in ("whole", "killed")]
    assert students[0] == students[1]
    for name in ("whole", "killed"):
        assert [r["step"] for r in logged(tmp_path / name)] == list(range(8))
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())["metrics"]
        assert metrics["skipped_pictures"] == 1
        assert _answers(tmp_path / f"{name}-cache") == (6, 6)
    assert [path.name for path in tmp_path.glob("followed-*")] == ["followed-0"]
    said = capfd.readouterr()
    assert said.err.count("skipped: third.png: not a whole PNG") == 1
    assert "answers were read" in said.out
