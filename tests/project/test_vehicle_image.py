"""The vehicle's wheel and image: what they hold, and that their install lines work."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
MOST_BYTES = 250_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The vehicle's wheel, built as `make wheel-runtime` does."""
    folder = tmp_path_factory.mktemp("dist")
    source = shutil.copytree(
        ROOT / "runtime", folder / "runtime", ignore=shutil.ignore_patterns("__pycache__")
    )
    options = ("--quiet", "--no-deps", "--no-build-isolation")
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, source]
    subprocess.run(command, check=True)
    [built] = folder.glob("*.whl")
    return built


def _stage(name):
    """Return the lines of a stage of the Dockerfile, joined where they are continued."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    text = text.partition(f"AS {name}\n")[2].partition("\nFROM ")[0]
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.slow
def test_wheel_holds_the_runtime_and_is_small(wheel):
    assert wheel.name.startswith("edgedetr_runtime-")
    assert wheel.stat().st_size < MOST_BYTES
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
        [metadata] = [n for n in files if n.endswith("METADATA")]
        needs = re.findall(
            r"^Requires-Dist: ([\w-]+)(?!.*extra)", archive.read(metadata).decode(), re.MULTILINE
        )
    code = {n for n in files if ".dist-info/" not in n}
    assert all(n.startswith("edgedetr/runtime/") for n in code)
    home = ROOT / "runtime"
    sources = {p.relative_to(home).as_posix() for p in (home / "edgedetr").rglob("*.py")}
    assert sources <= code
    assert sorted(needs) == ["click", "numpy", "opencv-python-headless", "tomli"]


@pytest.mark.slow
def test_install_lines_of_the_image_work(wheel, tiny_onnx, tmp_path):
    """Copies what the image copies, and nothing else, and runs its install line."""
    root = tmp_path / "root"
    for line in _stage("install"):
        word, *arguments = shlex.split(line)
        if word == "COPY" and arguments[0].startswith("--from"):
            (root / "dist").mkdir(parents=True)
            shutil.copy(wheel, root / "dist")
        elif word == "COPY":
            target = root / "src" / arguments[1] / ("" if arguments[1] != "./" else arguments[0])
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / arguments[0], target)
    [line] = [ln for ln in _stage("install") if ln.startswith("RUN") and "install.sh" in ln]
    install = line.removeprefix("RUN ").split("&&")[0]
    for inside in ("/opt/edgedetr", "/dist/"):
        install = install.replace(inside, f"{root}{inside}")
    subprocess.run(["sh", "-c", install], cwd=root / "src", check=True)  # noqa: S607
    out = tmp_path / "out"
    image = tmp_path / "images" / "000000.png"
    image.parent.mkdir()
    _write_white(image)
    edgedetr = root / "opt" / "edgedetr" / "bin" / "edgedetr"
    command = [edgedetr, "detect", tiny_onnx(), "--images", image.parent, "--out", out]
    subprocess.run(command, check=True)
    assert (out / "000000.txt").read_text(encoding="utf-8").startswith("Car ")


def _write_white(path):
    import cv2
    import numpy as np

    assert cv2.imwrite(str(path), np.full((8, 16, 3), 255, np.uint8))


def test_dockerfile_passes_hadolint():
    command = Path(sys.executable).parent / "hadolint"
    if not command.is_file():
        pytest.skip("hadolint is not installed beside this Python")
    done = subprocess.run([command, DOCKERFILE], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout


def test_image_does_not_run_as_root_and_has_a_health_check():
    stage = _stage("vehicle")
    users = [line.split()[1] for line in stage if line.startswith("USER")]
    assert users
    assert all(user not in {"0", "root"} for user in users)
    assert any(line.startswith("HEALTHCHECK") and '"health"' in line for line in stage)


def test_image_sees_cameras_and_gpu_and_holds_no_compiler():
    stage = "\n".join(_stage("vehicle"))
    assert "--groups video,render" in stage
    assert "COPY --from=install /opt/edgedetr /opt/edgedetr" in stage
    assert not re.search(r"g\+\+|python3-dev", stage)


def test_the_compiler_of_cuda_is_found_without_root_having_it_on_its_path(tmp_path):
    """Sudo resets PATH; pycuda looks for CUDA's headers beside nvcc."""
    for name, text in {"python3": 'echo "$PATH"; exit 9', "nvcc": "exit 0"}.items():
        folder = tmp_path / ("bin" if name == "python3" else "cuda/bin")
        folder.mkdir(parents=True)
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", ROOT / "runtime" / "install.sh", "prefix", "wheel"],
        env={"PATH": str(tmp_path / "bin"), "CUDA_HOME": str(tmp_path / "cuda")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 9
    assert done.stdout.strip().split(":")[-1] == str(tmp_path / "cuda" / "bin")


def test_no_install_line_names_tensorrt():
    """The one of the base image is the one that fits its driver."""
    installs = [line for line in _stage("install") + _stage("vehicle") if "install" in line]
    script = (ROOT / "runtime" / "install.sh").read_text(encoding="utf-8")
    commands = [line for line in script.splitlines() if not line.startswith("#")]
    assert installs
    assert not any("tensorrt" in line.lower() for line in [*installs, *commands])
