"""The whole package's wheel: what it brings, and that three lines find objects with it alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_BYTES = 8_000_000
PARTS = ("runtime", "distill", "calib", "export", "benchmarks")
HEAVY = ("torch", "transformers", "onnx", "jinja2")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "checkpoints", "results")
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ("--quiet", "--no-deps", "--no-build-isolation")
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder)]
    subprocess.run([*command, str(source)], check=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the wheel in it."""
    target = tmp_path_factory.mktemp("installed")
    options = ("--quiet", "--no-deps", "--target", str(target))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    return target


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """Run Python with the installed wheel and the dependencies, and nothing of this checkout."""
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def three_lines() -> str:
    """The Python that the documentation shows."""
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    found = re.search(r"^## Three lines.*?```python\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def test_the_wheel_brings_recipes_and_a_detector_and_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < MOST_BYTES
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    recipes = {f"edgedetr/distill/configs/{p.name}" for p in (ROOT / "distill/configs").iterdir()}
    assert recipes < files
    assert {"edgedetr/models/road.onnx", "edgedetr/models/road.onnx.manifest.json"} < files
    assert {"edgedetr/bench/report/report.schema.json", "edgedetr/bench/report/report.js"} < files


def test_recipes_are_listed_and_found_by_name(installed: Path, tmp_path: Path) -> None:
    command = ["-c", "from edgedetr.runtime.cli import main; main()", "distill", "recipes"]
    assert "kitti_teacher" in run(installed, tmp_path, *command)
    where = "import edgedetr.distill.recipes as r; print(*r.recipes().values(), sep='\\n')"
    paths = run(installed, tmp_path, "-c", where).splitlines()
    assert all(path.startswith(str(installed)) for path in paths)


def test_three_lines_find_objects_in_a_photo(
    installed: Path, tmp_path: Path, shared_data: Path
) -> None:
    photos = sorted((shared_data / "road_objects").rglob("*.jpg"))[:8]
    if not photos:
        pytest.skip("the photos of road_objects are not here")
    lines = three_lines()
    assert len([line for line in lines.splitlines() if line]) == 3
    found = []
    for photo in photos:
        shutil.copy(photo, tmp_path / "photo.jpg")
        found.append(run(installed, tmp_path, "-W", "error", "-c", lines))
    assert all(text.startswith("Detections(boxes=array(") for text in found)
    assert any("labels=array([]" not in text for text in found), found


def test_the_detector_needs_no_training_stack(installed: Path, tmp_path: Path) -> None:
    check = "import sys; from edgedetr.runtime import Detector; Detector.open('road').close(); "
    check += f"print([m for m in {HEAVY!r} if m in sys.modules])"
    assert run(installed, tmp_path, "-c", check).strip() == "[]"
