import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edgedetr.bench.study import pool, workshop
from edgedetr.bench.study.plan import Key, Run
from edgedetr.bench.study.pool import _next, expected_seconds, read_records, run_study
from edgedetr.bench.study.training import DivergedError, _Loop
from edgedetr.runtime.errors import ArtifactError, UsageError

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def finished(study_of, packed, project, tmp_path_factory):
    """Records of a study that ran to its end, what was trained in turn, and what it said."""
    folder, found = tmp_path_factory.mktemp("study"), Finished({}, [], [])
    train = workshop.Workshop.train

    def noted(self, run, chosen):
        found.seen.append(run.key[1:])
        return train(self, run, chosen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workshop.Workshop, "train", noted)
        path = folder / "records.jsonl"
        found.records = run_study(study_of(packed, project, folder), path, 1, found.said.append)
    assert read_records(path) == found.records
    return found


@dataclass
class Finished:
    records: dict[Key, dict[str, Any]]
    seen: list[tuple[str, str, int]]
    said: list[str]


def scores(records):
    return {key: record["ap"] for key, record in records.items()}


def test_a_study_trains_every_run_and_scores_it_once(finished):
    assert finished.seen == [
        ("teacher", "teacher", 0),
        ("none", "tune", 0),
        ("heir", "tune", 0),
        ("none", "final", 0),
        ("heir", "final", 0),
        ("none", "final", 1),
        ("heir", "final", 1),
    ]
    assert len(finished.said) == len(finished.seen)
    for record in finished.records.values():
        assert 0 <= record["ap"] <= 100
        if record["kind"] != "teacher":
            assert [step for step, _ in record["curve"]] == [1, 2, 3, 4]
            assert record["terms"]["detection"] > 0
    assert any("lcmd" in name for name in finished.records["small", "heir", "final", 0]["terms"])


def test_a_stopped_study_goes_on_and_a_run_repeats_to_the_digit(make_study, tmp_path, finished):
    path, lost = tmp_path / "records.jsonl", ("small", "heir", "final", 0)
    kept = {key: record for key, record in finished.records.items() if key != lost}
    pool.write_records(path, kept)
    said: list[str] = []
    records = run_study(make_study(), path, 1, said.append)
    assert len(said) == 1
    assert records.keys() == finished.records.keys()
    assert records[lost]["terms"] == finished.records[lost]["terms"]
    assert scores(records) == scores(finished.records)
    assert run_study(make_study(packs={}), path, 1, said.append) == records  # nothing is read
    assert len(said) == 1


def test_a_run_that_the_time_limit_stops_leaves_nothing(make_study, tmp_path, monkeypatch):
    path, study = tmp_path / "records.jsonl", make_study(until=time.monotonic() + 1e6)
    step = _Loop._step

    def slow(self):
        monkeypatch.setattr(time, "monotonic", lambda: study.until + 1)
        return step(self)

    monkeypatch.setattr(_Loop, "_step", slow)
    records = run_study(study, path, 1, lambda _: None)
    assert [key[1] for key in records] == ["teacher"]
    assert read_records(path) == records


def test_time_may_be_over_before_all_is_augmented(make_study, tmp_path):
    path = tmp_path / "records.jsonl"
    assert run_study(make_study(until=0.0), path, 1, print) == {}
    assert not path.exists()


def test_no_run_begins_that_would_not_end(make_study):
    """A step took 2 s: 4 steps are 8 s, and of the other arm as many as of its pair's slowest."""
    record = {"pair": "small", "arm": "none", "seconds": 8.0, "steps": 4}
    records = {("small", "none", "tune", 0): record}
    study = make_study()
    assert expected_seconds(study, Run("small", "none", "final", 0), records) == 8
    assert expected_seconds(study, Run("small", "heir", "final", 0), records) == 8
    assert expected_seconds(study, Run("small", "heir", "final", 0), {}) == 0
    soon = make_study(until=time.monotonic() + 7)
    assert _next(soon, [Run("small", "none", "tune", 0)], records) is None
    later = make_study(until=time.monotonic() + 100)
    assert _next(later, [Run("small", "none", "tune", 0)], records) is not None


def test_a_run_that_diverges_counts_with_nothing(make_study, tmp_path, monkeypatch):
    def fail(*_):
        raise DivergedError("the loss at step 3 is not finite")

    monkeypatch.setattr(_Loop, "until", fail)
    records = run_study(make_study(), tmp_path / "r.jsonl", 1, lambda _: None)
    record = records["small", "none", "final", 1]
    assert (record["ap"], record["diverged"]) == (0, "the loss at step 3 is not finite")


def test_records_of_other_code_or_length_are_not_mixed(make_study, tmp_path):
    path = tmp_path / "records.jsonl"
    record = {"pair": "small", "arm": "none", "kind": "tune", "number": 0, "code": "abc"}
    path.write_text(json.dumps(record | {"steps": 9}) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="small/none/tune/0 has 9 steps, wanted are 4"):
        run_study(make_study(), path, 1, print)
    with pytest.raises(UsageError, match="small/none/tune/0 is of other code"):
        run_study(make_study(code="other"), path, 1, print)
    path.write_text('{"pair": 3\n', encoding="utf-8")
    with pytest.raises(ArtifactError, match="a line is no record of a run"):
        run_study(make_study(), path, 1, print)


@pytest.mark.slow
def test_processes_side_by_side_find_what_one_finds(make_study, tmp_path, finished):
    study = make_study()
    pair = replace(study.pairs["small"], seeds=0)
    records = run_study(replace(study, pairs={"small": pair}), tmp_path / "r.jsonl", 2, print)
    assert len(records) == 3
    for arm in pair.arms:
        key = "small", arm, "tune", 0
        assert records[key]["terms"] == finished.records[key]["terms"]


@pytest.fixture
def script(monkeypatch):
    """The script as a function of its command line; returns how it exits."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import distillation_study

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["distillation_study.py", *map(str, arguments)])
        return distillation_study.main()

    yield run
    sys.modules.pop("distillation_study", None)


def test_the_command_line_refuses_in_one_line(script, packed, tmp_path):
    command = ["run", "--minutes", 1, "--records", tmp_path / "r.jsonl", "--pack", packed]
    with pytest.raises(SystemExit) as stopped:
        script(*command)
    assert "learns from small; packs are named by their data, such as synth.npz" in str(
        stopped.value
    )
    with pytest.raises(SystemExit) as stopped:
        script("report", "--records", tmp_path / "none", "--out", tmp_path / "x.json")
    assert "has no run of synth_d_fine, road_d_fine" in str(stopped.value)
