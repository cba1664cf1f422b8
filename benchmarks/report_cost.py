"""Measure what a report costs beyond running the models, and how long the command line takes.

    python benchmarks/report_cost.py --run runs/demo --data data/synth

Writes ``benchmarks/results/report_cost.json``; exit status 1 where a limit does not hold. The
report is that of four models of a run on 500 frames; the time of the models is taken off. Slices,
kinds of errors, reliability and worst frames are those of one model on 8000 frames from a seed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any
from unittest.mock import patch

import click
import numpy as np

from edgedetr.bench.report import assemble
from edgedetr.bench.report.error_kinds import error_kinds
from edgedetr.bench.report.matches import all_objects, match
from edgedetr.bench.report.measure import measure
from edgedetr.bench.report.reliability import reliability
from edgedetr.bench.report.slices import slices
from edgedetr.bench.report.worst_frames import frame_errors
from edgedetr.bench.result_file import result_option, write_result
from edgedetr.distill.data import Truth
from edgedetr.runtime.types import Detections

LIMITS = {"report_beyond_models_s": 60, "slices_s": 8, "help_s": 0.3}
REPORT_FRAMES, SLICE_FRAMES = 500, 8000
MODELS = ("teacher.onnx", "student.onnx", "student.fp16.onnx", "student.int8.onnx")
NAMES = ("Car", "Pedestrian", "Cyclist")
MEASURES = ("benchmarks/edgedetr/bench/report", "benchmarks/edgedetr/pages")
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--run", type=click.Path(path_type=Path), default=Path("runs/demo"))
@click.option("--data", type=click.Path(path_type=Path), default=Path("data/synth"))
@click.option("--repeats", default=3, help="The fastest of the short measurements counts.")
@result_option(__file__)
def main(run: Path, data: Path, repeats: int, out: Path) -> None:
    """Measure and write the figures."""
    figures: dict[str, Any] = {
        "report_beyond_models_s": report_seconds(run, data),
        "slices_s": min(slice_seconds(seed) for seed in range(repeats)),
        "help_s": min(help_seconds() for _ in range(3 * repeats)),
        "frames": {"report": REPORT_FRAMES, "slices": SLICE_FRAMES},
        "limits": LIMITS,
    }
    figures["held"] = {name: figures[name] <= limit for name, limit in LIMITS.items()}
    write_result(out, figures, MEASURES)
    click.echo(json.dumps(figures, indent=2))
    sys.exit(not all(figures["held"].values()))


def report_seconds(run: Path, data: Path) -> float:
    """Return how long the report of four models on ``REPORT_FRAMES`` frames takes beside them."""
    spent_ns = 0

    def timed(*arguments: Any) -> Any:  # noqa: ANN401 - handed on
        nonlocal spent_ns
        start_ns = perf_counter_ns()
        found = measure(*arguments)
        spent_ns += perf_counter_ns() - start_ns
        return found

    with TemporaryDirectory() as name:
        folder, root = Path(name) / "run", Path(name) / "data"
        folder.mkdir()
        (root / "ImageSets").mkdir(parents=True)
        (root / "training").symlink_to((data / "training").resolve())
        frames = sorted(path.stem for path in (data / "training" / "image_2").iterdir())
        frames = frames[:REPORT_FRAMES]
        (root / "ImageSets" / "val.txt").write_text("\n".join(frames), encoding="utf-8")
        for model in MODELS:
            shutil.copy(run / model, folder)
        start_ns = perf_counter_ns()
        with patch.object(assemble, "measure", timed):
            assemble.write_report(folder, assemble.DataChoice(root))
        whole_ns = perf_counter_ns() - start_ns
    if len(frames) < REPORT_FRAMES:
        raise click.UsageError(f"{data} has {len(frames)} frames, wanted {REPORT_FRAMES}")
    return (whole_ns - spent_ns) / 1e9


def slice_seconds(seed: int) -> float:
    """Return how long one model's figures take on ``SLICE_FRAMES`` frames that are there."""
    random = np.random.default_rng(seed)
    frames = [random_frame(random) for _ in range(SLICE_FRAMES)]
    truths, detections = [truth for truth, _ in frames], [found for _, found in frames]
    light = random.uniform(0, 255, len(frames)).tolist()
    start_ns = perf_counter_ns()
    objects, matches = all_objects(truths, None, light), match(truths, detections)
    slices(objects, matches, NAMES, len(frames), matches)
    error_kinds(truths, detections, matches)
    reliability(matches, NAMES)
    frame_errors(objects, matches, len(frames))
    return (perf_counter_ns() - start_ns) / 1e9


def random_frame(random: np.random.Generator) -> tuple[Truth, Detections]:
    """Make seven objects, and ten detections of which most lie on one of them."""
    corner = random.uniform(0, (1100, 300), (7, 2))
    boxes = np.hstack([corner, corner + random.uniform(15, 120, (7, 2))]).astype(np.float32)
    labels = random.integers(0, len(NAMES), 7)
    truth = Truth(
        boxes,
        labels,
        random.uniform(0, 1, 7).astype(np.float32),
        random.integers(0, 4, 7),
        np.zeros((0, 4), np.float32),
    )
    chosen = random.integers(0, 7, 10)
    moved = boxes[chosen] + random.normal(0, 4, (10, 4)).astype(np.float32)
    scores = np.sort(random.uniform(0.05, 1, 10))[::-1].astype(np.float32)
    return truth, Detections(moved, scores, labels[chosen])


def help_seconds() -> float:
    """Return how long ``edgedetr --help`` takes."""
    command = [str(Path(sys.executable).with_name("edgedetr")), "--help"]
    start_ns = perf_counter_ns()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)  # noqa: S603
    return (perf_counter_ns() - start_ns) / 1e9


if __name__ == "__main__":
    main()
