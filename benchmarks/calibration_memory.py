"""Measure the peak memory of calibration and search: it must not grow with the number of frames.

    python benchmarks/calibration_memory.py

Writes ``benchmarks/results/calibration_memory.json``. The model is the smallest D-FINE with random
weights, the frames are coloured noise; each run is a process of its own, so that one peak cannot
hide another. Calibration includes bias correction, here on every frame, and not only on its usual
64. The search measures each block and some sets of them as ``edgedetr export qdq`` does, with
limits without labels, in a small size, because it runs the model dozens of times on each frame.
Beside it runs ONNX Runtime's percentile calibrator over the same convolutions' inputs and outputs;
it keeps every activation until the end, so that a few frames must do.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import click
import cv2
import numpy as np

from edgedetr.bench.result_file import write_result
from edgedetr.calib import bias_correction
from edgedetr.calib.collect import collect
from edgedetr.export.search.int8_coverage import find_coverage
from edgedetr.export.search.trial import Scenes, Trial
from edgedetr.export.verify.limits import Gate
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.machine import package_versions
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec

ROOT = Path(__file__).parents[1]
SPEC = ModelSpec((384, 1248), ("Car", "Pedestrian", "Cyclist"))
FRAMES = (32, 512)
PEER_FRAMES = (2, 8)
LARGEST_RATIO = 1.1

SMALL = ModelSpec((96, 160), SPEC.class_names)
"""What the search runs."""
CALIBRATION_FRAMES = 8
"""Frames that its model is calibrated on."""

MEASURES = (
    "calib/edgedetr/calib/bias_correction.py",
    "calib/edgedetr/calib/collect.py",
    "calib/edgedetr/calib/histogram.py",
    "export/edgedetr/export/search/int8_coverage.py",
    "export/edgedetr/export/search/sensitivity.py",
    "export/edgedetr/export/search/trial.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Measure both numbers of frames and write the figures; fail where a peak grew by 10 %."""
    if context.invoked_subcommand:
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        runs, searches = measure_ours(folder, FRAMES)
        peers = [_measure(folder, "peer", count) for count in PEER_FRAMES]
    ratios = [growth(runs), growth(searches)]
    figures = {
        "versions": package_versions(),
        "model": f"D-FINE edge-tiny, {_size(SPEC)}, random weights; {_size(SMALL)} for the search",
        "runs": runs,
        "peak_ratio": ratios[0],
        "search_runs": searches,
        "search_peak_ratio": ratios[1],
        "largest_ratio_allowed": LARGEST_RATIO,
        "onnxruntime_percentile_runs": peers,
    }
    write_result(ROOT / "benchmarks/results/calibration_memory.json", figures, MEASURES)
    click.echo(json.dumps(figures, indent=2))
    if max(ratios) > LARGEST_RATIO:
        raise GateError(
            f"the peak memory grew {max(ratios):.2f} times; at most {LARGEST_RATIO} is right"
        )


def measure_ours(
    folder: Path, counts: tuple[int, ...]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Calibrate and search with each number of frames; leave model and frames in a folder."""
    _export(folder / "model.onnx", SPEC)
    _export(folder / "small.onnx", SMALL)
    _write_frames(folder / "frames", max(counts))
    runs = [_measure(folder, "child", count) for count in counts]
    return runs, [_measure(folder, "search", count) for count in counts]


def growth(runs: list[dict[str, Any]]) -> float:
    """Return how many times more memory the last run took than the first."""
    first, *_, last = (float(run["peak_mib"]) for run in runs)
    return round(last / first, 4)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("count", type=int)
def child(folder: Path, count: int) -> None:
    """Calibrate once and print what it cost."""
    bias_correction.FRAMES = count
    start = perf_counter()
    stats = collect(folder / "model.onnx", list_images(folder / "frames")[:count], SPEC)
    figures = {
        "frames": stats.frames,
        "tensors": len(stats.ranges),
        "corrected_layers": sum(map(len, stats.shifts.values())),
        "seconds": round(perf_counter() - start, 2),
        "peak_mib": round(_peak_mib(), 1),
    }
    click.echo(json.dumps(figures))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("count", type=int)
def search(folder: Path, count: int) -> None:
    """Search once for what may be INT8 and print what it cost."""
    images = list_images(folder / "frames")[:count]
    stats = collect(folder / "small.onnx", images[:CALIBRATION_FRAMES], SMALL)
    model = load_onnx(folder / "small.onnx")
    start = perf_counter()
    limits = Gate(0.95, 0.02).limits("int8")
    with Trial(model, SMALL, Scenes(tuple(images))) as trial:
        found = find_coverage(model, stats, trial, None, target="openvino", limits=limits)
    figures = {
        "frames": count,
        "candidates": len(found.sensitivity.effects),
        "sets": len(found.steps),
        "seconds": round(perf_counter() - start, 2),
        "peak_mib": round(_peak_mib(), 1),
    }
    click.echo(json.dumps(figures))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("count", type=int)
def peer(folder: Path, count: int) -> None:
    """Calibrate once with ONNX Runtime's own tool and print what it cost."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    start = perf_counter()
    calibrator = create_calibrator(
        folder / "model.onnx",
        op_types_to_calibrate=["Conv"],
        augmented_model_path=str(folder / f"augmented_{count}.onnx"),
        calibrate_method=CalibrationMethod.Percentile,
    )
    calibrator.collect_data(_Frames(list_images(folder / "frames")[:count]))
    found = calibrator.compute_data()
    figures = {
        "frames": count,
        "tensors": len(found.data),
        "seconds": round(perf_counter() - start, 2),
        "peak_mib": round(_peak_mib(), 1),
    }
    click.echo(json.dumps(figures))


class _Frames:
    """Feeds images to ONNX Runtime's calibrator, one at a time."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = iter(paths)
        self._preprocess = Preprocessor(SPEC)

    def get_next(self) -> dict[str, Any] | None:
        path = next(self._paths, None)
        if path is None:
            return None
        images = np.empty((1, 3, *SPEC.input_hw), np.float32)
        self._preprocess(read_image(path), images[0])
        return {SPEC.input_name: images}


def _measure(folder: Path, tool: str, count: int) -> dict[str, Any]:
    command = [sys.executable, __file__, tool, str(folder), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _peak_mib() -> float:
    """Return this process's peak resident memory; unlike getrusage's, it starts anew at exec."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _write_frames(folder: Path, count: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    height, width = SPEC.input_hw
    for index in range(count):
        noise = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index:06d}.png"), cv2.resize(noise, (width, height)))


def _size(spec: ModelSpec) -> str:
    return f"{spec.input_hw[0]}x{spec.input_hw[1]}"


def _export(path: Path, spec: ModelSpec) -> None:
    """Export a model with random weights whose scores are high enough for something to be found."""
    import torch

    from edgedetr.distill.model import new_model
    from edgedetr.export.transforms.trace import trace

    torch.manual_seed(0)
    model = new_model("d_fine", "edge-tiny", spec)
    model.network.eval()
    for name, values in model.network.named_parameters():
        if name.endswith(("score_head.bias", "class_embed.0.bias", "class_embed.1.bias")):
            torch.nn.init.constant_(values, -1.0)
    trace(model, path)


if __name__ == "__main__":
    main()
