"""Where pycuda cannot be built the reason is said, and nothing is left."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("build_pycuda.py")


@pytest.fixture
def script():
    """The names of the script, on a machine without pycuda."""
    names = runpy.run_path(str(SCRIPT))
    names["main"].__globals__["find_spec"] = lambda name: None  # noqa: ARG005
    return names["main"].__globals__


def test_no_compiler_is_said(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("shutil.which", lambda _: None)
    script["main"](tmp_path / "pycuda")
    assert "pycuda is not built, so its tests run on a fake of it: no C++ compiler" in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "pycuda").exists()


def test_no_headers_are_said(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("shutil.which", lambda _: "g++")
    script["main"](tmp_path / "pycuda")
    assert "no cuda.h in the packages of NVIDIA" in capsys.readouterr().out


def test_what_a_command_says_is_the_reason(script):
    code = "import sys; print('no such\\npackage'); sys.exit(1)"
    with pytest.raises(script["CannotBuildError"], match=r"failed: \.\.\.no such package"):
        script["run"]([sys.executable, "-c", code])


def test_pycuda_that_is_there_is_not_built(script, monkeypatch, tmp_path):
    monkeypatch.setitem(script, "find_spec", lambda _: "found")
    monkeypatch.setattr(subprocess, "run", None)
    script["main"](tmp_path / "pycuda")
    assert (tmp_path / "pycuda" / "installed").read_text() == "pycuda==2026.1\n"
