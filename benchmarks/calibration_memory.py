"""Measure the peak memory of calibration: it must not grow with the number of frames.

    python benchmarks/calibration_memory.py

Writes ``benchmarks/results/calibration_memory.json``. The model is the smallest D-FINE with random
weights, the frames are coloured noise; each run is a process of its own, so that one peak cannot
hide another. Beside it runs ONNX Runtime's percentile calibrator over the same convolutions' inputs
and outputs; it keeps every activation until the end, so that a few frames must do.
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
from edgedetr.calib.collect import collect
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

MEASURES = ("calib/edgedetr/calib/collect.py", "calib/edgedetr/calib/histogram.py")
"""What makes these figures: once it changes, they are stale."""


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Measure both numbers of frames and write the figures; fail where the peak grew by 10 %."""
    if context.invoked_subcommand:
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        _export(folder / "model.onnx")
        _write_frames(folder / "frames", max(FRAMES))
        runs = [_measure(folder, "child", count) for count in FRAMES]
        peers = [_measure(folder, "peer", count) for count in PEER_FRAMES]
    ratio = runs[1]["peak_mib"] / runs[0]["peak_mib"]
    figures = {
        "versions": package_versions(),
        "model": f"D-FINE edge-tiny, {SPEC.input_hw[0]}x{SPEC.input_hw[1]}, random weights",
        "runs": runs,
        "peak_ratio": round(ratio, 4),
        "largest_ratio_allowed": LARGEST_RATIO,
        "onnxruntime_percentile_runs": peers,
    }
    write_result(ROOT / "benchmarks/results/calibration_memory.json", figures, MEASURES)
    click.echo(json.dumps(figures, indent=2))
    if ratio > LARGEST_RATIO:
        raise GateError(f"the peak memory grew {ratio:.2f} times; at most {LARGEST_RATIO} is right")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("count", type=int)
def child(folder: Path, count: int) -> None:
    """Calibrate once and print what it cost."""
    start = perf_counter()
    stats = collect(folder / "model.onnx", list_images(folder / "frames")[:count], SPEC)
    figures = {
        "frames": stats.frames,
        "tensors": len(stats.ranges),
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


def _export(path: Path) -> None:
    import torch

    from edgedetr.distill.model import new_model
    from edgedetr.export.transforms.trace import trace

    torch.manual_seed(0)
    model = new_model("d_fine", "edge-tiny", SPEC)
    model.network.eval()
    trace(model, path)


if __name__ == "__main__":
    main()
