"""The README's commands run as they stand, in a folder of their own, on few frames."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
TRAINED = "distill/checkpoints/synth_teacher.safetensors"
KITTI = "make distill export report DATA=/path/to/kitti CONFIG=kitti"
QUICK = (
    "--set epochs=1 --set student.preset=edge-small --set optimizer.learning_rate=1e-6 "
    f"--set student.input_hw=[96,320] --set student.inherit=false --set student.init={TRAINED} "
    "--set data.train_split=val"
)
"""One epoch that leaves a trained model as good as it is, so that gates have something to check.

It runs over the few frames of the validation split, as nothing is to be learnt from them.
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the project's files and none of its runs."""
    folder = tmp_path_factory.mktemp("fresh")
    for path in ROOT.iterdir():
        if path.name not in {"data", "runs", ".git"}:
            (folder / path.name).symlink_to(path)
    grey = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    cv2.imwrite(str(folder / "photo.jpg"), grey)
    return folder


def run(command, folder):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def shortened(command):
    """Give a README command few frames and one epoch; all else stays as it is printed.

    The gates judge by the validation split, a fifth of the frames, so it needs some dozens.
    """
    if command == "make test":
        return "make -n test"
    if command == KITTI:  # what it exports and reports is compared below
        command = command.replace(" export report", "").replace("/path/to/kitti", "data/scenes")
    if command.startswith("make"):
        return f"{command} FRAMES=300 TRAIN={shlex.quote(QUICK)}"
    if command.startswith("edgedetr distill train"):
        return f"{command} {QUICK}"
    if command.startswith("edgedetr bench"):
        return f"{command} --frames 5"
    if command.startswith("edgedetr calib collect"):
        return f"{command} --frames 16"
    return command


def test_the_readme_has_commands():
    assert {"make demo", "make test", KITTI} <= set(COMMANDS)
    assert sum(c.startswith("edgedetr") for c in COMMANDS) >= 8


@pytest.mark.slow
def test_the_commands_run_in_their_order(workplace):
    for command in COMMANDS:
        run(shortened(command), workplace)
    assert (workplace / "found/overlays/photo.png").is_file()
    report = workplace / "runs/demo/report.html"
    assert report.stat().st_size > 10_000
    before = report.stat().st_mtime_ns
    run(shortened("make demo"), workplace)
    assert report.stat().st_mtime_ns == before, "a second make demo must find nothing to do"
    example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    (workplace / "example.py").write_text(example, encoding="utf-8")
    run(f"{shlex.quote(sys.executable)} example.py", workplace)


def test_kitti_is_exported_and_reported_as_the_demo_is(workplace):
    """The demo runs these commands, so that they need not run again on a second student."""

    def commands(config, folder):
        report = f"make -nB {folder}/report.html CONFIG={config} RUN={folder} DATA=data/synth"
        printed = run(report, workplace).replace(folder, "RUN").replace(f"{config}.toml", "CONFIG")
        return sorted(printed.splitlines())  # make begins with what is there already

    kitti = commands("kitti", "runs/kitti")
    assert any("edgedetr verify RUN/student.onnx" in line for line in kitti)
    assert kitti == commands("synth", "runs/demo")


def test_the_measured_section_is_that_of_the_results():
    run(f"{shlex.quote(sys.executable)} benchmarks/measured_sections.py --check", ROOT)
