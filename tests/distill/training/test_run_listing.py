import fcntl
import json
import math
import os
import signal

import pytest

from edgedetr.distill.training.run_facts import note_facts
from edgedetr.distill.training.run_listing import as_text, listed, sorted_by
from edgedetr.distill.training.run_log import RunLog
from edgedetr.runtime.errors import DataError

CONFIG = {
    "methods": ["clock"],
    "student": {"family": "d_fine", "preset": "edge-micro"},
    "teacher": "a/teacher.safetensors",
}


def make_run(folder, *aps, steps=2, total=10):
    folder.mkdir(parents=True)
    note_facts(folder, CONFIG, "a command", total)
    log = RunLog(folder, 0, 1)
    for step in range(steps):
        log.step(step, step, {"loss": 1.0})
    for epoch, ap in enumerate(aps):
        log.evaluation(epoch + 1, epoch, {"ap": ap, "ap50": ap})
    log.close()
    return folder


def finish(folder, ap):
    metrics = {"metrics": {"ap": ap, "ap50": ap, "seconds": 90.0}, "config": CONFIG, "sources": {}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "student.safetensors").touch()
    return folder


def test_runs_are_listed_with_how_far_they_came_and_how_good_they_are(tmp_path):
    make_run(tmp_path / "stopped", 0.2, 0.4, 0.1, steps=3)
    finish(make_run(tmp_path / "deep" / "done", 0.5, steps=10), 0.5)
    found = {run.folder: run for run in listed(tmp_path)}
    assert found.keys() == {"stopped", "deep/done"}
    run = found["stopped"]
    assert (run.state, run.steps, run.total_steps, run.ap_last, run.ap_best) == (
        *("stopped", 3, 10),
        *(0.1, 0.4),
    )
    assert (run.student, run.methods) == ("d_fine/edge-micro", "clock")
    done = found["deep/done"]
    assert (done.state, done.ap_last, done.seconds) == ("finished", 0.5, 90)
    lines = as_text(sorted_by([*found.values()], "ap"))
    assert lines[1].split()[:5] == ["deep/done", "finished", "10/10", "50.0", "%"]
    assert "teacher.safetensors" in lines[2]
    assert "0:01:30" in lines[1]


def test_a_run_whose_lock_is_held_is_training(tmp_path):
    run = make_run(tmp_path / "run")
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        with (run / "run.lock").open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            os.write(theirs, b"x")
            signal.pause()
    os.read(ours, 1)
    try:
        assert [run.state for run in listed(tmp_path)] == ["training"]
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(ours)
        os.close(theirs)
    assert [run.state for run in listed(tmp_path)] == ["stopped"]


def test_broken_folders_are_said_and_the_others_are_listed(tmp_path):
    make_run(tmp_path / "good")
    (finish(make_run(tmp_path / "bad"), 0.1) / "metrics.json").write_text("{")
    (make_run(tmp_path / "torn") / "log.jsonl").write_bytes(b'{"kind": "step", "st')
    (make_run(tmp_path / "odd") / "run.json").write_text("[]")
    found = {run.folder: run for run in listed(tmp_path)}
    assert {name: run.state for name, run in found.items()} == {
        "good": "stopped",
        "bad": "broken",
        "torn": "stopped",
        "odd": "broken",
    }
    assert "metrics.json: not a readable JSON file" in found["bad"].problem
    assert found["torn"].steps == 0


def test_runs_of_older_versions_are_listed(tmp_path):
    run = finish(make_run(tmp_path / "old", 0.25), 0.25)
    (run / "run.json").unlink()
    [found] = listed(tmp_path)
    assert (found.state, found.student, found.total_steps) == ("finished", "d_fine/edge-micro", 0)


def test_sorts(tmp_path):
    make_run(tmp_path / "a", steps=1)
    make_run(tmp_path / "b", 0.1, steps=3)
    make_run(tmp_path / "c", 0.3, steps=2)
    runs = listed(tmp_path)
    assert math.isnan(runs[0].ap_last)
    order = {key: [r.folder for r in sorted_by(runs, key)] for key in ("ap", "steps", "name")}
    assert order == {"ap": ["c", "b", "a"], "steps": ["b", "c", "a"], "name": ["a", "b", "c"]}


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        listed(tmp_path / "none")
