"""Let a tiny model detect for a long time and watch memory and open files.

    python benchmarks/soak.py --frames 100000

Writes ``benchmarks/results/soak.json``; exit status 1 where they grow. Frames go through everything
that ``edgedetr run`` has but the waiting: reading, detection, tracking, result files. Every tenth
is submitted besides, and every 5000 the model is swapped for itself.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.runtime.clock import MonotonicClock
from edgedetr.runtime.detector import Detector
from edgedetr.runtime.machine import package_versions
from edgedetr.runtime.sources.capture import Capture
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec
from edgedetr.runtime.stream.result_files import ResultFiles
from edgedetr.runtime.stream.stream import Stream
from edgedetr.runtime.stream.tracking import Tracker
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    from edgedetr.runtime.clock import StopFlag

SPEC = ModelSpec((32, 96), ("Car", "Pedestrian"))
LIMIT_MB = 5.0
SWAP_EVERY = 5000
_PERIOD_NS = 33_000_000
_WARM_UP = 0.1

MEASURES = (
    "runtime/edgedetr/runtime/inference/pipeline.py",
    "runtime/edgedetr/runtime/stream/run.py",
    "runtime/edgedetr/runtime/stream/stream.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--frames", type=click.IntRange(1000), default=100_000, show_default=True)
@result_option(__file__)
def main(frames: int, out: Path) -> None:
    """Run and write the figures."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
    try:
        figures = soak(folder, frames)
    finally:
        shutil.rmtree(folder)
    record = figures | {
        "limit_mb": LIMIT_MB,
        "versions": package_versions(),
    }
    write_result(out, record, MEASURES)
    click.echo(json.dumps(record, indent=2))
    sys.exit(figures["grown_mb"] > LIMIT_MB or figures["files_after"] > figures["files_before"])


def soak(folder: Path, frames: int) -> dict[str, float]:
    """Detect in ``frames`` frames; memory counts from the first tenth on."""
    path = write_model(folder / "tiny.onnx")
    memory_mb, files = [], []
    with (
        Detector.open(path) as detector,
        ResultFiles(folder / "out", None, rate_hz=30, class_names=SPEC.class_names) as results,
    ):
        stream = Stream(
            detector, EndlessSource(frames), deadline_ns=_PERIOD_NS, tracker=Tracker(_PERIOD_NS)
        )
        for index, result in enumerate(stream):
            results.write(result)
            if index % 10 == 0:
                detector.submit(result.frame).result()
            if index % SWAP_EVERY == SWAP_EVERY - 1:
                detector.swap(path)
            if index % max(1, frames // 100) == 0:
                memory_mb.append(_resident_mb())
                files.append(len(list(Path("/proc/self/fd").iterdir())))
        summary = stream.summary()
    settled = round(_WARM_UP * len(memory_mb))
    return {
        "frames": summary.frames,
        "failed": summary.failed,
        "frames_written": results.written,
        "memory_settled_mb": memory_mb[settled],
        "memory_end_mb": memory_mb[-1],
        "grown_mb": memory_mb[-1] - memory_mb[settled],
        "files_before": files[settled],
        "files_after": files[-1],
        "latency_p50_ms": summary.latency.p50_ms if summary.latency else 0.0,
    }


class EndlessSource:
    """Frames without a camera: a bright square crosses the picture, without any waiting."""

    def __init__(self, frames: int) -> None:
        self._left = frames
        self._clock = MonotonicClock()

    def next(self, stop: StopFlag) -> Capture | None:
        """Make a frame."""
        if not self._left or stop.is_set():
            return None
        self._left -= 1
        image = np.zeros((64, 192, 3), np.uint8)
        image[:, : self._left % 192] = 255
        frame = Frame(image, self._clock.now_ns(), f"{self._left % 1000:06d}")
        return Capture(frame, "", 0)

    def close(self) -> None:
        """Do nothing."""


def write_model(path: Path) -> Path:
    """Write a model whose only query is a car where the picture is bright."""
    gain = np.array([[[8.0, 0.0]]], np.float32)
    constants = {
        "gain": gain,
        "bias": np.array([[[-2.0, -9.0]]], np.float32),
        "zero": np.zeros((1, 1, 4), np.float32),
        "at": np.full((1, 1, 4), 0.5, np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["all"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMean", ["all"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "gain"], ["amplified"]),
        helper.make_node("Add", ["amplified", "bias"], ["logits"]),
        helper.make_node("Mul", ["mean", "zero"], ["still"]),
        helper.make_node("Add", ["still", "at"], ["boxes"]),
    ]
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", floats, [1, 3, *SPEC.input_hw])],
        [
            helper.make_tensor_value_info("logits", floats, [1, 1, 2]),
            helper.make_tensor_value_info("boxes", floats, [1, 1, 4]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: SPEC.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _resident_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000


if __name__ == "__main__":
    main()
