import json
import math
import os

import pytest

from edgedetr.distill.training.run_folder import finished_metrics, only_run_in
from edgedetr.distill.training.run_identity import RunIdentity
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec

SOURCES = {"teacher": "a" * 64, "data.train_split: labels": "b" * 64}
IDENTITY = RunIdentity({"seed": 3, "student.resize": "stretch"}, SOURCES)
CONFIG = {
    "seed": 3,
    "eval_every": 9,
    "teacher": "somewhere/teacher.safetensors",
    "data": {"root": "/elsewhere", "workers": 7},
    "student": {"resize": "stretch", "init": "", "backbone_weights": ""},
}
RECORD = {"config": CONFIG, "sources": SOURCES, "metrics": {"ap": None, "ap50": 0.5, "seconds": 3}}


@pytest.fixture
def run(tmp_path):
    """The folder of a finished run."""
    student = tmp_path / "student.safetensors"
    student.write_bytes(b"a student")
    write_manifest(student, kind="checkpoint", command="x", spec=ModelSpec((8, 8), ("Car",)))
    (tmp_path / "metrics.json").write_text(json.dumps(RECORD), encoding="utf-8")
    return tmp_path


def in_another_process(work):
    """Run something in a forked process; return what it raises, as text."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(theirs, b"done")
        except BaseException as error:
            os.write(theirs, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    with os.fdopen(ours) as pipe:
        return pipe.read()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_second_run_is_kept_out_until_the_first_ends(tmp_path):
    out = tmp_path / "new" / "run"

    def enter():
        with only_run_in(out):
            pass

    with only_run_in(out):
        assert [p.name for p in out.iterdir()] == ["run.lock"]
        said = f"UsageError: {out}: another run (process {os.getpid()}) is using it; wait"
        assert in_another_process(enter).startswith(said)
        assert [p.name for p in out.iterdir()] == ["run.lock"]
    assert list(tmp_path.iterdir()) == []
    assert in_another_process(enter) == "done"


def test_what_a_killed_run_left_locks_nobody_out(tmp_path):
    (tmp_path / "run.lock").write_text("4711\n", encoding="utf-8")
    (tmp_path / ".1f2e3d4c5b6a.tmp").write_bytes(b"half a state")
    with only_run_in(tmp_path):
        assert (tmp_path / "run.lock").read_text(encoding="utf-8") != "4711\n"
        assert [p.name for p in tmp_path.iterdir()] == ["run.lock"]


def test_a_file_is_no_folder_of_a_run(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is a file; choose"), only_run_in(tmp_path / "file"):
        pass


def test_a_finished_run_of_the_same_settings_and_sources_is_up_to_date(run):
    found = finished_metrics(run, IDENTITY)
    assert found is not None
    assert math.isnan(found["ap"])
    assert (found["ap50"], found["seconds"]) == (0.5, 3)


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (RunIdentity({**IDENTITY.settings, "seed": 4}, SOURCES), "seed was 3, is 4"),
        (RunIdentity({**IDENTITY.settings, "qat": 1}, SOURCES), "qat was None, is 1"),
        (RunIdentity({"seed": 3}, SOURCES), "student.resize was 'stretch', is None"),
        (
            RunIdentity(IDENTITY.settings, {**SOURCES, "teacher": "c" * 64}),
            r"teacher was a{12}\.\.\., is c{12}\.\.\.",
        ),
        (
            RunIdentity(IDENTITY.settings, {**SOURCES, "data.train_split: labels": "c" * 64}),
            r"data.train_split: labels was b{12}",
        ),
    ],
)
def test_a_finished_run_of_another_kind_is_refused_with_what_differs(run, identity, message):
    with pytest.raises(ArtifactError, match=rf"finished run of another config \({message}.*choose"):
        finished_metrics(run, identity)
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8")) == RECORD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "{}",
        "[" * 90_000,
        '{"config": 5, "metrics": {}}',
        '{"config": {}}',
        '{"config": {}, "metrics": {"ap": "high"}}',
        '{"config": {}, "metrics": {"ap": NaN}}',
    ],
)
def test_damaged_metrics_are_one_line(run, text):
    (run / "metrics.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"metrics\.json: .*; remove it") as caught:
        finished_metrics(run, IDENTITY)
    assert "\n" not in str(caught.value)


def test_a_student_that_was_changed_afterwards_is_refused(run):
    (run / "student.safetensors").write_bytes(b"another student")
    with pytest.raises(ArtifactError, match="does not match its manifest"):
        finished_metrics(run, IDENTITY)


def test_a_student_of_no_run_is_not_overwritten(run):
    (run / "metrics.json").unlink()
    with pytest.raises(ArtifactError, match=r"exists without metrics.json or state.safetensors"):
        finished_metrics(run, IDENTITY)
    (run / "state.safetensors").touch()  # a run that was killed while it finished
    assert finished_metrics(run, IDENTITY) is None
