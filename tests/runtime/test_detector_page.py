"""The Python of docs/runtime.md runs as it stands, and so does its command."""

import re
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedetr.runtime import cli

PAGE = (Path(__file__).parents[2] / "docs" / "runtime.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def workplace(tiny_onnx, tmp_path, monkeypatch):
    tiny_onnx().rename(tmp_path / "student.onnx")
    (tmp_path / "frames").mkdir()
    for k in range(3):
        image = np.full((20, 40, 3), 255, np.uint8)
        cv2.imwrite(str(tmp_path / "frames" / f"{k:03d}.png"), image)
    monkeypatch.chdir(tmp_path)


def test_the_examples_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    exec(compile("".join(blocks), "docs/runtime.md", "exec"), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("['Car'] [0.98] [[10.  5. 30. 15.]]")
    assert "'bbox': [10.0, 5.0, 20.0, 10.0]" in lines[1]
    assert lines[2] == "[1, 1, 1]"
    assert lines[-1].startswith("3 frames, 0 dropped")


@pytest.mark.slow
def test_the_command_runs(monkeypatch):
    pytest.importorskip("edgefirst.tracker")
    command = next(line for line in PAGE.splitlines() if line.startswith("edgedetr run"))
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert Path("results/summary.json").is_file()
    assert Path("drive.mp4").is_file()
