"""Measure what the runtime adds to the bare network, for a model of the size of D-FINE-N.

    python benchmarks/latency_overhead.py --images ../shared/data/kitti/training/image_2

Writes ``benchmarks/results/latency_overhead.json``. The weights are random: they do not change the
time. Bare session and detector take turns on every frame of one run, so a busy machine slows both
alike; the absolute figures are those of an idle machine only where the noted load is near zero.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
import warnings
from pathlib import Path

import click
import onnx
import torch
from torch import Tensor, nn

from edgedetr.bench.latency import measure_latency
from edgedetr.distill.detectors import d_fine
from edgedetr.runtime.files import write_text
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "latency_overhead.json"
SPEC = ModelSpec((384, 1248), ("Car", "Pedestrian", "Cyclist"))
LIMIT = 1.10


@click.command()
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--frames", type=click.IntRange(1), default=200, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), default=RESULT)
def main(images: Path, frames: int, out: Path) -> None:
    """Measure and write the figures; exit 1 where the overhead is above its limit."""
    command = shlex.join(["python", "benchmarks/latency_overhead.py", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d_fine_nano.onnx"
        parameters = write_model(path)
        report = measure_latency(path, images, frames, command=command)
    figures = report.to_dict() | {"parameters": parameters, "limit": LIMIT}
    write_text(out, json.dumps(figures, indent=2) + "\n")
    click.echo(json.dumps(figures, indent=2))
    sys.exit(report.overhead_ratio > LIMIT)


def write_model(path: Path) -> int:
    """Export a D-FINE-N of random weights; return the number of its parameters."""
    torch.manual_seed(0)
    model = _Answers(d_fine.build("nano", len(SPEC.class_names))).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns about every shape that it fixes
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, *SPEC.input_hw),),
            str(path),
            opset_version=17,
            input_names=[SPEC.input_name],
            output_names=[SPEC.logits_name, SPEC.boxes_name],
            dynamo=False,
        )
    written = onnx.load(path)
    onnx.helper.set_model_props(written, {METADATA_KEY: SPEC.to_json()})
    onnx.save(written, path)
    return sum(p.numel() for p in model.parameters())


class _Answers(nn.Module):
    """A detector that returns logits and boxes only."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(  # type: ignore[explicit-override]
        self, images: Tensor
    ) -> tuple[Tensor, Tensor]:
        return d_fine.predict(self.detector, images)


if __name__ == "__main__":
    main()
