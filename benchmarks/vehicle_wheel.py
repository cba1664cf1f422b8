"""Measure the vehicle's wheel: its size, and how long imports take where nothing else is installed.

    python benchmarks/vehicle_wheel.py

Writes ``benchmarks/results/vehicle_wheel.json``; exit status 1 where a limit does not hold. The
wheel is built from ``runtime/`` and installed by ``runtime/install.sh``, as in the image. Then
processes that import one thing each take turns; of each the fastest counts, because other work only
adds to it.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.runtime.machine import package_versions

ROOT = Path(__file__).parents[1]
LIMITS = {"wheel_bytes": 200_000, "import_s": 0.3}
STATEMENTS = {
    "pass": "pass",
    "numpy": "import numpy",
    "opencv": "import numpy, cv2",
    "runtime": "import edgedetr.runtime",
    "detector": "from edgedetr.runtime import Detector, Frame",
}
"""What is imported; the first three are floors, the last is what a program needs to detect."""

MEASURES = ("runtime/pyproject.toml", "runtime/edgedetr/runtime/__init__.py")
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--runs", type=click.IntRange(3), default=20, show_default=True)
@result_option(__file__)
def main(runs: int, out: Path) -> None:
    """Measure and write the figures."""
    with tempfile.TemporaryDirectory() as name:
        wheel = build_wheel(Path(name))
        size = wheel.stat().st_size
        times = import_times(install(wheel, Path(name) / "root"), runs)
    held = {
        "wheel_bytes": size < LIMITS["wheel_bytes"],
        "import_s": all(times[n]["above_pass_s"] < LIMITS["import_s"] for n in STATEMENTS),
    }
    record = {
        "wheel_bytes": size,
        "imports": times,
        "runs": runs,
        "limits": LIMITS,
        "held": held,
        "versions": package_versions(),
    }
    write_result(out, record, MEASURES)
    click.echo(json.dumps(record, indent=2))
    sys.exit(not all(held.values()))


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the sources, as `make wheel-runtime` does."""
    ignore = shutil.ignore_patterns("__pycache__")
    source = shutil.copytree(ROOT / "runtime", folder / "runtime", ignore=ignore)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    subprocess.run(command, check=True)  # noqa: S603
    [wheel] = folder.glob("*.whl")
    return wheel


def install(wheel: Path, prefix: Path) -> Path:
    """Run the image's install lines; return the Python that sees what they installed."""
    command = ["sh", str(ROOT / "runtime" / "install.sh"), str(prefix), str(wheel)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return prefix / "bin" / "python"


def import_times(python: Path, runs: int) -> dict[str, dict[str, Any]]:
    """Start processes that import one thing each, in turns; the first turn only fills caches."""
    samples: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for turn in range(1 + runs):
        for name, statement in STATEMENTS.items():
            start_ns = time.perf_counter_ns()
            subprocess.run([python, "-I", "-c", statement], check=True)  # noqa: S603
            if turn:
                samples[name].append((time.perf_counter_ns() - start_ns) / 1e9)
    floor = min(samples["pass"])
    return {
        name: {
            "statement": STATEMENTS[name],
            "best_s": round(min(taken), 4),
            "median_s": round(statistics.median(taken), 4),
            "above_pass_s": round(min(taken) - floor, 4),
        }
        for name, taken in samples.items()
    }


if __name__ == "__main__":
    main()
