"""Time the INT8 graphs for CPUs beside FP32, the model alone, in turns.

    python benchmarks/int8_latency.py D_FINE_N.onnx RT_DETR_R18.onnx

Each model lies beside what ``edgedetr calib collect`` wrote for it. Writes
``benchmarks/results/int8_latency.json``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.calib.stats import default_stats_path
from edgedetr.export.to_qdq import export_qdq
from edgedetr.runtime.backend_lookup import backend as find_backend
from edgedetr.runtime.manifest import versions_of

if TYPE_CHECKING:
    from edgedetr.calib.targets import Target

TURNS, WARM_UP, THREADS = 8, 2, 2
PACKAGES = ("edgedetr", "onnx", "onnxruntime", "openvino")

MEASURES = (
    "calib/edgedetr/calib/placement.py",
    "calib/edgedetr/calib/rounding.py",
    "export/edgedetr/export/transforms/qdq_nodes.py",
    "export/edgedetr/export/transforms/quantize.py",
    "runtime/edgedetr/runtime/backends/onnxruntime.py",
    "runtime/edgedetr/runtime/backends/openvino.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.argument("models", type=click.Path(path_type=Path), nargs=-1, required=True)
@result_option(__file__)
def main(models: tuple[Path, ...], out: Path) -> None:
    """Measure and write the figures."""
    figures = {
        "threads": THREADS,
        "turns": TURNS,
        "models": {path.name: latencies(path) for path in models},
        "versions": versions_of(PACKAGES),
    }
    write_result(out, figures, MEASURES)
    click.echo(json.dumps(figures, indent=1))


def latencies(path: Path) -> dict[str, Any]:
    """Measure the CPU's graphs of a model beside FP32 in their backends, in turns."""
    found: dict[str, Any] = {}
    stats = default_stats_path(path)
    with tempfile.TemporaryDirectory() as name:
        backends: tuple[Target, ...] = ("openvino", "onnxruntime")
        for backend in backends:
            files = {"fp32": path}
            targets: tuple[Target, ...] = ("tensorrt", backend)
            for target in targets:
                files[target] = Path(name) / f"{target}.onnx"
                export_qdq(path, stats, files[target], rest="fp32", target=target)
            found[backend] = in_turns(backend, files)
    return found


def in_turns(backend: str, files: dict[str, Path]) -> dict[str, float]:
    """Return medians in ms, and the ratio of each to that of FP32."""
    module: Any = find_backend(backend)
    sessions = {name: module.open_session(file, threads=THREADS) for name, file in files.items()}
    samples: dict[str, list[float]] = {name: [] for name in files}
    for turn in range(WARM_UP + TURNS):
        for name, session in sessions.items():
            start = perf_counter_ns()
            session.infer()
            if turn >= WARM_UP:
                samples[name].append((perf_counter_ns() - start) / 1e6)
    medians = {name: float(np.median(times)) for name, times in samples.items()}
    ratios = {f"{n} over fp32": round(m / medians["fp32"], 3) for n, m in medians.items()}
    for session in sessions.values():
        session.close()
    return {f"{name} ms": round(m, 1) for name, m in medians.items()} | ratios


if __name__ == "__main__":
    main()
