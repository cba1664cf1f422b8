"""docs/own-data.md: its config and its commands work as they stand, on a few rendered frames."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
TRAINS = "edgedetr distill train own.toml -o runs/own"
SHORT = "--dry-run --set data.workers=0"
"""Training itself is what the notebook of the same data does in its own test."""
STUDENT = ROOT / "distill/checkpoints/synth_teacher.safetensors"


@pytest.mark.slow
def test_the_commands_run(tmp_path, monkeypatch, edgedetr):
    pytest.importorskip("torch")
    (tmp_path / "distill").symlink_to(ROOT / "distill")
    monkeypatch.chdir(tmp_path)
    assert edgedetr("data", "synth", "scenes", "--frames", 10, "--seed", 7, "--workers", 1)[0] == 0
    assert edgedetr("data", "convert", "scenes", "photos", "--to", "yolo")[0] == 0
    (config,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    Path("own.toml").write_text(config, encoding="utf-8")
    assert TRAINS in COMMANDS
    Path("runs/own").mkdir(parents=True)
    shutil.copy(STUDENT, "runs/own/student.safetensors")
    for line in COMMANDS:
        words = shlex.split(f"{line} {SHORT}" if line == TRAINS else line)
        status, out, err = edgedetr(*words[1:])
        assert status == 0, f"{line}\n{out}\n{err}"
    for path in ("photos.html", "samples.png", "runs/own/verify.onnx.json"):
        assert Path(path).stat().st_size > 1000
    assert list(Path("found/overlays").iterdir())
