"""Run `make demo` as a user would, and keep how long it took and what it reported.

    python benchmarks/demo.py --out benchmarks/results/demo.json

What an earlier demo left in data/synth and runs/demo is removed first; the environment is kept.
The cores of a virtual machine may at times share one of the host's, so what they are worth is
measured before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter

from edgedetr.bench.result_file import write_result

ROOT = Path(__file__).parents[1]
RUN = ROOT / "runs" / "demo"

MEASURES = (
    "distill/configs/synth.toml",
    "distill/edgedetr/distill/distillation.py",
    "distill/edgedetr/distill/recipe.py",
    "distill/edgedetr/distill/synth",
)
"""What makes these figures: once it changes, they are stale."""


def main() -> None:
    """Time the demo and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for folder in (ROOT / "data" / "synth", RUN):
        shutil.rmtree(folder, ignore_errors=True)
    worth_before = cores_worth()
    started = perf_counter()
    subprocess.run(["make", "demo"], cwd=ROOT, check=True)  # noqa: S607 - the user's own command
    seconds = perf_counter() - started
    report = json.loads((RUN / "report.json").read_text(encoding="utf-8"))
    training = json.loads((RUN / "metrics.json").read_text(encoding="utf-8"))
    record = {
        "seconds": round(seconds, 1),
        "training_seconds": round(training["metrics"]["seconds"], 1),
        "largest_process_peak_gib": round(
            resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2
        ),
        "cores_worth": [worth_before, cores_worth()],
        "models": report["models"],
    }
    write_result(arguments.out, record, MEASURES)
    print(f"make demo took {seconds:.0f} s")


def cores_worth() -> float:
    """Return how many times the work of one core all cores do together, with a loop of integers."""
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(_loop_seconds, range(cores)))  # starts the processes
        alone = min(pool.submit(_loop_seconds, 0).result() for _ in range(3))
        together = max(pool.map(_loop_seconds, range(cores)))
    return round(cores * alone / together, 2)


def _loop_seconds(_: int) -> float:
    started, total = perf_counter(), 0
    for number in range(6_000_000):
        total += number * number
    return perf_counter() - started


if __name__ == "__main__":
    main()
