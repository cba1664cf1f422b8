"""MLflow and Weights & Biases off line, each in a process of its own: their state is global."""

import json
import os
import subprocess
import sys

import pytest

from edgedetr.distill.training import trackers
from edgedetr.distill.training.run_log import RunLog
from edgedetr.distill.training.trackers import Tracked, require_trackers
from edgedetr.runtime.errors import UsageError

PROGRAM = """
import sys
from pathlib import Path
from accelerate import PartialState
from edgedetr.distill.training.run_log import RunLog
from edgedetr.distill.training.trackers import Tracked, require_trackers

PartialState()
name, out = sys.argv[1], Path(sys.argv[2])
require_trackers([name])
log = RunLog(out, 0, 2, watchers=[Tracked(name, out, {"epochs": 2, "data.root": "x"})])
log.step(0, 0, {"loss": 3.0, "lr": float("nan")})
log.evaluation(2, 0, {"ap": 0.25, "ap50": 0.5})
log.step(2, 1, {"loss": 2.0})
log.close()
log = RunLog(out, 1, 2, watchers=[Tracked(name, out, {"epochs": 2, "data.root": "x"})])
log.evaluation(4, 1, {"ap": 0.5, "ap50": 0.75})
log.close()
"""


def run(name, out, environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, str(out)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "is left out" not in done.stderr
    return json.loads((out / "trackers.json").read_text())


@pytest.mark.slow
def test_mlflow_gets_steps_and_evaluations_and_one_run_that_goes_on(tmp_path):
    pytest.importorskip("mlflow")
    out = tmp_path / "run"
    store = tmp_path / "mlruns"
    [run_id] = run("mlflow", out, {"MLFLOW_TRACKING_URI": f"file:{store}",
                                   "MLFLOW_ALLOW_FILE_STORE": "true"}).values()  # fmt: skip
    [folder] = [path for path in store.glob("*/*") if path.name == run_id]
    lines = (folder / "metrics" / "evaluation" / "ap").read_text().splitlines()
    assert [line.split()[1:3] for line in lines] == [["0.25", "2"], ["0.5", "4"]]
    assert not (folder / "metrics" / "step" / "lr").exists()
    assert (folder / "params" / "data.root").read_text() == "x"


@pytest.mark.slow
def test_wandb_writes_off_line_and_goes_on_in_the_same_run(tmp_path):
    pytest.importorskip("wandb")
    out = tmp_path / "run"
    [run_id] = run("wandb", out, {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}).values()
    found = list((out / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"))
    assert len(found) >= 1
    assert b"evaluation/ap" in found[0].read_bytes()


def test_a_tracker_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="track = 'wandb': it is not installed; pip install wandb"):
        require_trackers(["wandb"])
    require_trackers([])


class Failing:
    """A tracker whose service goes away after the first step."""

    def __init__(self):
        self.logged = []

    def store_init_configuration(self, values):
        self.logged.append(values)

    def log(self, values, step):
        if self.logged[1:]:
            raise ConnectionError("the service\nis gone")
        self.logged.append((values, step))

    def finish(self):
        raise AssertionError


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    failing = Failing()
    monkeypatch.setitem(trackers._STARTS, "mlflow", lambda *_: (failing, "7"))
    log = RunLog(tmp_path, 0, 2, watchers=[Tracked("mlflow", tmp_path, {"epochs": 2})])
    log.step(0, 0, {"loss": 3.0, "lr": float("nan")})
    log.step(1, 0, {"loss": 3.0})  # a moment later: left out
    for epoch in range(2):
        log.evaluation(2, epoch, {"ap": 0.5})
    log.close()
    assert failing.logged == [{"epochs": 2}, ({"step/loss": 3.0, "step/epoch": 0}, 0)]
    assert capsys.readouterr().err == "warning: mlflow is left out: the service is gone\n"
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 4
