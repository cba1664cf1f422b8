"""Two processes on the CPU, joined by gloo, train as one does."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from dataclasses import replace
from multiprocessing import get_context

import pytest
import torch
from accelerate.state import AcceleratorState

from edgedetr.distill.config import StudentConfig
from edgedetr.distill.optimizer_config import OptimizerConfig
from edgedetr.distill.recipe import train
from edgedetr.distill.training.optimizer import parameter_groups
from edgedetr.distill.training.processes import Processes, processes_of_run
from edgedetr.distill.training.run_state import RunState
from edgedetr.distill.training.sampling import ALONE
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.runtime.errors import DataError, EdgeDetrError

HW = (64, 96)
PAIRS = {
    "denoising and target queries with noise": (
        *("dino", "dino", ("clock",)),
        *({"clock": {"box_noise": 0.4, "label_noise": 0.2}}, 4),
    ),
    "random queries, and batch norms of a stage that trains": (
        *("dab_detr", "dab_detr", ("kd_detr",), {}, 2),
    ),
    "the queue of a contrast": (
        *("dab_detr", "faster_rcnn", ("g_detkd",), {"g_detkd": {"queue": 40}}, 3),
    ),
    "relations of objects, and a method held to a share": (
        *("fcos", "retinanet", ("fgd", "drkd"), {"fgd": {"share": 0.1}}, 4),
    ),
}
"""Student, teacher, methods and their settings, and stages of the backbone that stay as they are:
one batch norm after the other makes much of a rounding where a level has a few cells."""


def _port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _joined(rank, count, port, errors, function, arguments):
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
def started():
    """Starts a function in processes of one run; returns them, and a queue of their errors."""
    context = get_context("fork")
    running = []

    def start(count, function, *arguments):
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
def run(started):
    """Runs a function in processes of one run to the end; returns their exit statuses."""

    def finish(count, function, *arguments):
        some, _ = started(count, function, *arguments)
        for process in some:
            process.join(100)
        return [process.exitcode for process in some]

    return finish


def _descent(trainee, config):
    return torch.optim.SGD(parameter_groups(trainee, config))


def _log(out, kind="step"):
    lines = (out / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


@pytest.mark.parametrize("name", PAIRS)
def test_two_processes_log_the_losses_of_one_with_the_same_batches(
    config, run, tmp_path, make_model, monkeypatch, name
):
    """Steepest descent moves weights by their gradients; Adam would by the signs of rounding."""
    monkeypatch.setattr("edgedetr.distill.recipe.optimizer_of", _descent)
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

    assert run(1, train, config, tmp_path / "one", "a test") == [0]
    assert run(2, train, config, tmp_path / "two", "a test") == [0, 0]

    one, two = _log(tmp_path / "one"), _log(tmp_path / "two")
    assert len(one) == len(two) == 20
    for mine, theirs in zip(one, two, strict=True):
        assert mine.keys() == theirs.keys()
        for term in mine.keys() - {"kind", "seconds"}:
            assert theirs[term] == pytest.approx(mine[term], rel=1e-4, abs=1e-4), term


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
    config, run, tmp_path, teacher
):
    assert run(2, _evaluate_twice, config, teacher, tmp_path) == [0, 0]

    (first, alone), (second, _) = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)
    )
    assert first == second == alone


def _killed_in_epoch_3(config, out):
    """Train, and let the second process be killed while the third epoch trains."""
    save = RunState.save
    epochs = []

    def saved(self, path, done):
        save(self, path, done)
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
    config, started, run, tmp_path
):
    config = replace(config, batch_size=4, epochs=4, eval_every=4)
    some, errors = started(2, _killed_in_epoch_3, config, tmp_path / "killed")
    begun = time.monotonic()
    for process in some:
        process.join(100)

    assert time.monotonic() - begun < 90
    assert [process.exitcode for process in some] == [1, -signal.SIGKILL]
    rank, line = errors.get()
    assert rank == 0
    assert errors.empty()
    assert line.startswith("another process of this run ended")
    assert "start the same command again" in line
    assert run(2, train, config, tmp_path / "killed", "a test") == [0, 0]
    assert run(2, train, config, tmp_path / "whole", "a test") == [0, 0]
    killed, whole = (
        (tmp_path / name / "student.safetensors").read_bytes() for name in ("killed", "whole")
    )
    assert killed == whole
    assert [r["step"] for r in _log(tmp_path / "killed")] == [0, 1, 2, 3]


def test_a_state_of_two_processes_goes_on_with_one(config, run, started, tmp_path):
    config = replace(config, batch_size=4, epochs=4, eval_every=4)
    some, _ = started(2, _killed_in_epoch_3, config, tmp_path)
    for process in some:
        process.join(100)

    assert run(1, train, config, tmp_path, "a test") == [0]

    assert [r["step"] for r in _log(tmp_path)] == [0, 1, 2, 3]


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
        process.join(100)

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
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    some, errors = started(2, _fails_in, 5)
    for process in some:
        process.join(100)

    assert [process.exitcode for process in some] == [1, 1]
    assert errors.get()[1].startswith("FSDP is not supported: the processes of a run split")


def test_fewer_images_than_processes_are_refused(config, started, tmp_path):
    some, errors = started(2, train, replace(config, batch_size=1), tmp_path, "a test")
    for process in some:
        process.join(100)

    assert [process.exitcode for process in some] == [1, 1]
    assert "a batch has 1 images of a kind" in errors.get()[1]
