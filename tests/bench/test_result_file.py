"""Figures are printed only while the code that made them is as it was."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgedetr.bench import result_file
from edgedetr.bench.result_file import (
    age,
    printable,
    read_result,
    result_option,
    staleness,
    write_result,
)
from edgedetr.runtime.errors import ArtifactError, GateError

RESULTS = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*.json"))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with two commits."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.setattr(result_file, "ROOT", folder)
    monkeypatch.setattr(sys, "argv", ["/somewhere/benchmarks/speed.py", "--data", "x y"])
    git(folder, "init", "--quiet")
    commit(folder, "fast.py", "1")
    commit(folder, "other.py", "1")
    return folder


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(folder, name, text):
    (folder / name).write_text(text)
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "-m", name)
    return git(folder, "rev-parse", "HEAD")


def changed(path, **values):
    """Write other values into a result."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return path


@pytest.fixture
def result(root, tmp_path):
    """What was measured at the first commits."""
    assert root.is_dir()
    path = tmp_path / "speed.json"
    write_result(path, {"seconds": 3}, ["fast.py"])
    return path


def test_a_result_names_command_machine_and_commit(root, result):
    found = read_result(result)
    assert found["command"] == "python benchmarks/speed.py --data 'x y'"
    assert found["machine"]["cores"] >= 1
    assert found["measured_at"] == {"commit": git(root, "rev-parse", "HEAD"), "dirty": False}
    assert (found["measures"], found["seconds"]) == (["fast.py"], 3)
    write_result(result, {"machine": "another"}, ["fast.py"])
    assert read_result(result)["machine"] == "another"
    with pytest.raises(ValueError, match=r"slow\.py is no path"):
        write_result(result, {}, ["slow.py"])


def test_figures_hold_until_what_they_measure_changes(root, result):
    commit(root, "other.py", "2")
    assert printable(result, root) == (read_result(result), True)
    first = read_result(result)["measured_at"]["commit"]
    judged = commit(root, "fast.py", "2")
    message = rf"speed\.json is stale: fast\.py changed since {first[:7]}; measure again"
    with pytest.raises(GateError, match=message):
        printable(result, root)
    changed(result, still_holds={"commit": judged, "reason": "only a comment"})
    assert printable(result, root)[1]
    commit(root, "fast.py", "3")
    with pytest.raises(GateError, match=rf"changed since {judged[:7]}"):
        printable(result, root)


def test_figures_of_an_older_state_are_printed_with_their_commit(root, result):
    commit(root, "fast.py", "2")
    assert not age(read_result(result))
    found, _ = printable(changed(result, older_state="it is faster now"), root)
    assert age(found) == f" (at {found['measured_at']['commit'][:7]})"


def test_what_was_measured_with_uncommitted_changes_is_stale(root, tmp_path):
    path = tmp_path / "speed.json"
    (root / "fast.py").write_text("2")
    write_result(path, {}, ["other.py"])
    assert not read_result(path)["measured_at"]["dirty"]
    write_result(path, {}, ["fast.py"])
    commit(root, "fast.py", "2")
    assert staleness(read_result(path), root) == "it was measured with changes in no commit"


def test_without_history_nothing_is_judged(root, result, tmp_path):
    commit(root, "fast.py", "2")
    shallow = tmp_path / "shallow"
    git(root, "clone", "--quiet", "--depth", "1", f"file://{root}", str(shallow))
    for folder in (shallow, tmp_path):
        found, is_judged = printable(result, folder)
        assert (found["seconds"], is_judged) == (3, False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"measured_at": None}, "names no commit or no measured paths"),
        ({"measured_at": {"commit": ""}}, "names no commit or no measured paths"),
        ({"measures": []}, "names no commit or no measured paths"),
        ({"still_holds": {"commit": "abc"}}, "needs the commit that was judged and a reason"),
    ],
)
def test_a_result_that_does_not_say_what_it_is(result, values, message):
    with pytest.raises(ArtifactError, match=message):
        read_result(changed(result, **values))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_result_of_this_project_names_its_commit(path):
    assert read_result(path)["measured_at"]["commit"]


def test_a_script_writes_its_result_beside_the_others_unless_another_file_is_given(tmp_path):
    found = []

    @click.command()
    @result_option("benchmarks/soak.py")
    def script(out):
        found.append(out)

    CliRunner().invoke(script, [], catch_exceptions=False)
    CliRunner().invoke(script, ["--json", str(tmp_path / "a.json")], catch_exceptions=False)
    assert found == [result_file.ROOT / "benchmarks/results/soak.json", tmp_path / "a.json"]
