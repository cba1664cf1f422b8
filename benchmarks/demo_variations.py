"""Run `make demo` with other seeds and other bits of arithmetic, and keep what came of each.

    python benchmarks/demo_variations.py --out benchmarks/results/demo_variations.json

Instruction sets and threads round differently, and training makes other students of that. What was
rendered before is removed before each run, so that its time is that of a first demo. The cores of a
virtual machine may at times share one of the host's, so what they are worth is measured before each
run. The record is written after each run, and a second start goes on where the first was stopped;
the models stay in runs/variations/NAME beside the log of make.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from tqdm import tqdm

from edgedetr.bench.result_file import write_result
from edgedetr.export.verify.record import read_verify_record
from edgedetr.runtime.files import sha256

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "variations"
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2"}
ONEDNN = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Variation:
    """One run: a seed, and what is set around make."""

    seed: int
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name it by its settings."""
        settings = (f"{key.split('_')[0].lower()}-{v}" for key, v in self.environment.items())
        return "-".join([f"seed{self.seed}", *settings]).lower()


VARIATIONS = (
    Variation(0),
    Variation(0, AVX2),
    Variation(1, {**AVX2, **ONEDNN}),
    Variation(2),
    Variation(3, ONEDNN),
    Variation(4, AVX2),
    Variation(0, {"ATEN_CPU_CAPABILITY": "default"}),
    Variation(5, {"OMP_NUM_THREADS": "2"}),
    Variation(6, {**AVX2, **ONEDNN}),
    Variation(1, ONE_THREAD),
    Variation(7),
    Variation(2, {**AVX2, **ONEDNN, **ONE_THREAD}),
)
"""The most telling first, for a benchmark that is stopped early."""

MEASURES = (
    "distill/configs/synth.toml",
    "distill/edgedetr/distill/recipe.py",
    "distill/edgedetr/distill/training/loop.py",
    "distill/edgedetr/distill/training/objective.py",
    "distill/edgedetr/distill/synth",
)
"""What makes these figures: once it changes, they are stale."""


def main() -> None:
    """Run what is not in the record yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=len(VARIATIONS), help="Only the first so many.")
    parser.add_argument("--frames", type=int, default=900, help="To render, for a trial.")
    parser.add_argument("--train", default="", help="More settings of training, for a trial.")
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    settings = {"frames": arguments.frames, "train": arguments.train}
    runs = _before(arguments.out, settings) if arguments.resume else {}
    for variation in tqdm(VARIATIONS[: arguments.runs], "demos", unit="run", disable=None):
        if variation.name not in runs:
            runs[variation.name] = run_demo(variation, arguments.frames, arguments.train)
            _write(arguments.out, settings, runs)
    print(json.dumps(summary(list(runs.values())), indent=2))


def run_demo(variation: Variation, frames: int, train: str) -> dict[str, Any]:
    """Make the demo in a folder of its own; its exit status is a result like the others."""
    folder = FOLDER / variation.name
    for old in (ROOT / "data" / "synth", folder):
        shutil.rmtree(old, ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    command = [
        "make",
        "demo",
        f"DEMO_RUN={folder.relative_to(ROOT)}",
        f"FRAMES={frames}",
        f"TRAIN={f'--set seed={variation.seed} {train}'.strip()}",
    ]
    worth = cores_worth()
    started = perf_counter()
    with folder.with_suffix(".log").open("w", encoding="utf-8") as log:
        done = subprocess.run(  # noqa: S603 - the demo's own command
            command,
            cwd=ROOT,
            env={**os.environ, **variation.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return {
        **asdict(variation),
        "command": shlex.join([f"{k}={v}" for k, v in variation.environment.items()] + command),
        "seconds": round(perf_counter() - started, 1),
        "cores_worth": worth,
        "exit_status": done.returncode,
        **_found(folder),
    }


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


def _found(folder: Path) -> dict[str, Any]:
    """Read what lies in the folder; what was not made is None."""
    report, training = _json(folder / "report.json"), _json(folder / "metrics.json")
    student = folder / "student.safetensors"
    gates = [read_verify_record(path) for path in sorted(folder.glob("verify.*.json"))]
    return {
        "training_seconds": training and round(training["metrics"]["seconds"], 1),
        "student_sha256": sha256(student) if student.is_file() else None,
        "verdict": report and report["verdict"],
        "reasons": report and report["reasons"],
        "gates": {gate.path.stem: gate.verdict for gate in gates},
        "int8_coverage": report and _coverage(report),
        "models": [_model(m, report["models"][0]) for m in report["models"]] if report else [],
    }


def _coverage(report: dict[str, Any]) -> float:
    """Return the share of the multiply-accumulates in INT8, as its manifest says; 0 without one."""
    summaries = (o["summary"] for o in report["origins"] if o["artifact"] == "student.int8.onnx")
    found = re.search(r"([\d.]+)% of", next(summaries, ""))
    return float(found[1]) / 100 if found else 0.0


def _model(model: dict[str, Any], teacher: dict[str, Any]) -> dict[str, Any]:
    latency, reference = model["latency_ms"]["p50"], teacher["latency_ms"]["p50"]
    return {**model, "latency_ratio": latency / reference}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Take the median and the range of every figure over the runs that have it."""
    names = [m["name"] for m in max((run["models"] for run in runs), key=len, default=[])]
    return {
        "runs": len(runs),
        "green": sum(not run["exit_status"] for run in runs),
        "different_students": len({run["student_sha256"] for run in runs} - {None}),
        **{key: spread([r[key] for r in runs]) for key in ("seconds", "training_seconds")},
        "cores_worth": spread([run["cores_worth"] for run in runs]),
        "int8_coverage": spread([run["int8_coverage"] for run in runs]),
        "models": {
            name: _of_models([m for run in runs for m in run["models"] if m["name"] == name])
            for name in names
        },
    }


def _of_models(models: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarise one model of all runs."""
    cars = [(model["kitti_ap40_moderate"] or {}).get("Car") for model in models]
    plain = ("ap", "ap50", "agreement_with_teacher", "latency_ratio", "file_mib")
    return {
        **{key: spread([model[key] for model in models]) for key in plain},
        "kitti_car": spread(cars),
        **{p: spread([model["latency_ms"][p] for model in models]) for p in ("p50", "p99")},
    }


def spread(values: list[float | None]) -> dict[str, float] | None:
    """Return median and range of what is there; None where nothing is."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    return {"median": median(there), "min": min(there), "max": max(there), "runs": len(there)}


def _before(path: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Read the runs of an earlier start with the same settings."""
    record = _json(path)
    if record is None:
        return {}
    if record["settings"] != settings:
        sys.exit(f"{path} was made with {record['settings']}, not {settings}: --no-resume, or move")
    runs: dict[str, dict[str, Any]] = record["runs"]
    return runs


def _write(path: Path, settings: dict[str, Any], runs: dict[str, dict[str, Any]]) -> None:
    figures = {
        "summary": summary(list(runs.values())),
        "runs": runs,
        "settings": settings,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    write_result(path, figures, MEASURES)


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
