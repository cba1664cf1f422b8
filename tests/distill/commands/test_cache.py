from dataclasses import replace

import pytest
from click.testing import CliRunner

from edgedetr.distill.cli import distill
from edgedetr.distill.config import load_config
from edgedetr.runtime.errors import SettingsError, UsageError

CONFIG = """
teacher = "{teacher}"
methods = ["clock"]
epochs = 2
batch_size = 2
eval_every = 2
[data]
root = "{kitti}"
augment = "strong"
[student]
input_hw = [64, 96]
[optimizer]
warmup_steps = 1
"""


@pytest.fixture
def path(tmp_path, kitti, teacher):
    """The config of a run of four steps."""
    path = tmp_path / "small.toml"
    path.write_text(CONFIG.format(teacher=teacher, kitti=kitti), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_filled_cache_is_read_by_a_run_and_leaves_the_student_of_one_that_filled_it_itself(
    path, tmp_path, capsys
):
    """The second run reads what the first one added; a third what the command made beforehand."""
    own, made = tmp_path / "own", tmp_path / "made"
    runner = CliRunner()
    done = runner.invoke(distill, ["cache", str(path), "--cache", str(made)], obj=None)
    assert done.exit_code == 0, done.output
    assert "0 of 8 answers are there (0.00 GB)" in done.output
    assert "the run asks 8 times" in done.output
    assert "answers to make: about" in done.output
    students, said = [], []
    for number, folder in enumerate((own, own, made)):
        out = tmp_path / f"run{number}"
        arguments = ["train", str(path), "--cache", str(folder), "-o", str(out)]
        done = runner.invoke(distill, arguments, obj=lambda *_: None)
        assert done.exit_code == 0, done.output
        students.append((out / "student.safetensors").read_bytes())
        said.append(done.output + capsys.readouterr().out)
    assert students[0] == students[1]
    assert "answers were read" in said[0]
    assert "8 of 8 answers were read" in said[1]
    assert "8 of 8 answers were read" in said[2]


def test_a_cache_needs_a_teacher(path):
    with pytest.raises(SettingsError, match=r"teacher_cache\.path needs a teacher checkpoint"):
        load_config(path, ["teacher_cache.path=x", "teacher=''", "methods=['none']"])


def test_a_run_goes_on_only_with_as_many_views(path):
    """A run without a cache is the one that it was; the folder's place changes nothing."""
    without, one, other = (
        load_config(path, extra)
        for extra in ([], ["teacher_cache.path=x"], ["teacher_cache.path=y"])
    )
    assert "teacher_cache" not in without.record()
    assert one.record()["teacher_cache"] == {"path": "x", "views": 4, "precision": "fp16"}
    cache = replace(other.teacher_cache, path="x")
    assert replace(other, teacher_cache=cache) == one


def test_several_processes_are_refused(path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = CliRunner().invoke(distill, ["cache", str(path)])
    assert isinstance(done.exception, UsageError)
    assert "runs in one process; start it without a launcher" in str(done.exception)
