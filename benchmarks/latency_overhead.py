"""Measure what the runtime adds to the bare network, for a model of the size of D-FINE-N.

    python benchmarks/latency_overhead.py --images ../shared/data/kitti/training/image_2

Writes ``benchmarks/results/latency_overhead.json``: as `edgedetr run` opens a model, with threads
that sleep while they wait (``steady``), and as `Detector.open` does by default, with threads that
spin. The limit is for the vehicle, the former. The weights are random: they do not change the time.
Bare session and detector take turns on every frame of one run, so a busy machine slows both alike;
the absolute figures are those of an idle machine only where the noted load is near zero.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import onnx
import torch

from edgedetr.bench.latency import measure_latency
from edgedetr.bench.result_file import result_option, write_result
from edgedetr.distill.model import Model, new_model
from edgedetr.export.to_onnx import PACKAGES
from edgedetr.export.transforms.trace import trace
from edgedetr.graph.metadata import set_metadata
from edgedetr.runtime.manifest import versions_of
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((384, 1248), ("Car", "Pedestrian", "Cyclist"))
LIMIT = 1.05

MEASURES = (
    "runtime/edgedetr/runtime/backends/onnxruntime.py",
    "runtime/edgedetr/runtime/detector.py",
    "runtime/edgedetr/runtime/inference/loaded_model.py",
    "runtime/edgedetr/runtime/postprocess.py",
    "runtime/edgedetr/runtime/preprocess.py",
    "runtime/edgedetr/runtime/inference/watchdog.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--frames", type=click.IntRange(1), default=200, show_default=True)
@result_option(__file__)
def main(images: Path, frames: int, out: Path) -> None:
    """Measure and write the figures; exit 1 where the overhead is above its limit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d_fine_nano.onnx"
        parameters = sum(p.numel() for p in write_model(path).network.parameters())
        reports = {
            name: measure_latency(path, images, frames, opening={"steady": name == "steady"})
            for name in ("steady", "spinning")
        }
    figures: dict[str, Any] = {name: report.to_dict() for name, report in reports.items()}
    figures |= {"parameters": parameters, "limit": LIMIT}
    write_result(out, figures, MEASURES)
    click.echo(json.dumps(figures, indent=2))
    sys.exit(reports["steady"].overhead_ratio > LIMIT)


def write_model(path: Path) -> Model:
    """Export a D-FINE-N of random weights."""
    torch.manual_seed(0)
    model = new_model("d_fine", "nano", SPEC)
    model.network.eval()
    trace(model, path)
    written = onnx.load(path)
    set_metadata(written, SPEC, versions_of(PACKAGES))
    onnx.save(written, path)
    return model


if __name__ == "__main__":
    main()
