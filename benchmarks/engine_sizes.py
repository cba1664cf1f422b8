"""Build FP32, FP16 and INT8 engines with tensorrt_rtx and compare their sizes.

    python benchmarks/engine_sizes.py --run runs/demo --images ../shared/data/kitti/training/image_2

Writes ``benchmarks/results/engine_sizes.json``. The demo's student and teacher are as trained; the
RT-DETRs have random weights, for size and types do not hang on them; that with the small input is
what the tests build. No GPU is needed: the engines
are compiled for compute capability 8.6. An engine of tensorrt_rtx holds its kernels as source text,
which does not shrink with the types; so the size of the weights, as the builder says it, and of
the engine when zipped are given beside the size of the file.
"""

from __future__ import annotations

import json
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import click

from edgedetr.bench.result_file import write_result
from edgedetr.calib.collect import collect
from edgedetr.calib.frames import choose_frames
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.export.engine.options import EngineOptions
from edgedetr.export.to_engine import export_engine
from edgedetr.export.to_fp16 import export_fp16
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.to_qdq import export_qdq
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.machine import machine_facts
from edgedetr.runtime.manifest import versions_of
from parity import SPEC, settled_model

RESULT = Path(__file__).parent / "results" / "engine_sizes.json"
RANDOM = (
    ("rt_detr", "r18", (128, 256)),
    ("rt_detr", "r18", SPEC.input_hw),
    ("rt_detr", "r34", SPEC.input_hw),
)
OPTIONS = EngineOptions(compute_capabilities=("8.6",))
FRAMES = 8
"""How many images ranges are measured on; sizes do not hang on it."""

MEASURES = (
    "export/edgedetr/export/engine/builders",
    "export/edgedetr/export/engine/build.py",
    "export/edgedetr/export/to_engine.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Of the demo.")
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--json", "out", type=click.Path(path_type=Path), default=RESULT)
def main(run: Path, images: Path, out: Path) -> None:
    """Measure and write the figures."""
    paths = choose_frames(list_images(images), FRAMES)
    models = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for role in ("student", "teacher"):
            models[f"demo {role}"] = measure(run / f"{role}.onnx", folder, paths)
        for family, preset, (height, width) in RANDOM:
            path = folder / f"{family}.onnx"
            spec = replace(SPEC, input_hw=(height, width))
            model = settled_model(family, preset, paths, spec)
            save_model(folder / "m.safetensors", model, command="-")
            export_onnx(folder / "m.safetensors", path)
            models[f"{family} {preset} at {height}x{width}"] = measure(path, folder, paths)
    figures = {
        "machine": machine_facts("tensorrt_rtx, no GPU"),
        "versions": versions_of(("tensorrt-rtx-cu13", "onnx", "torch")),
        "models": models,
    }
    write_result(out, figures, MEASURES)


def measure(path: Path, folder: Path, images: list[Path]) -> dict[str, Any]:
    """Build the engines of a float32 ONNX file."""
    half, int8 = folder / "m.fp16.onnx", folder / "m.int8.onnx"
    stats = folder / "m.calib.json"
    export_fp16(path, half, frames=map(read_image, images))
    collect(path, images).write(stats)
    export_qdq(path, stats, int8, frames=map(read_image, images))
    found = {"fp32": build(path, folder), "fp16": build(half, folder), "int8": build(int8, folder)}
    for precision in ("fp16", "int8"):
        for key in ("engine_mib", "zipped_mib", "weights_mib"):
            ratio = found["fp32"][key] / found[precision][key]
            found[precision][f"smaller_by_{key.removesuffix('_mib')}"] = round(ratio, 2)
    click.echo(f"{path.name}: {json.dumps(found)}")
    return found


def build(path: Path, folder: Path) -> dict[str, Any]:
    """Build one engine and measure it."""
    output = folder / path.with_suffix(".engine").name
    start = process_time()
    report = export_engine(path, output, OPTIONS, backend="tensorrt_rtx")
    seconds = process_time() - start
    engine = output.read_bytes()
    return {
        "onnx_mib": round(path.stat().st_size / 2**20, 2),
        "engine_mib": round(len(engine) / 2**20, 2),
        "zipped_mib": round(len(zlib.compress(engine)) / 2**20, 2),
        "weights_mib": round(report.weights_mib or 0, 2),
        "cpu_seconds": round(seconds, 1),
        "convolutions_and_products": report.precision.macs,
        "layers": report.precision.outputs,
    }


if __name__ == "__main__":
    main()
