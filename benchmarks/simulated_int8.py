"""Compare the simulation of INT8 in PyTorch with the INT8 graph, on the demo's student.

    python benchmarks/simulated_int8.py --student runs/demo/student.safetensors \
        --images data/synth/training/image_2

Writes ``benchmarks/results/simulated_int8.json``. The student is given the steps with which a
quantization-aware run would start, from the first half of the images, and is not trained on: where
it rounds and what an export makes of it do not hang on that. The other half is compared: the
checkpoint with its INT8 graphs, with its float graph, and float with INT8, which is what rounding
itself costs.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.calib.frames import choose_frames
from edgedetr.distill.networks.reparameterize import reparameterize
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.export.qat import calibrated
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.to_qdq import export_qdq
from edgedetr.export.verify.compare import verify
from edgedetr.export.verify.frames import ImageFiles
from edgedetr.export.verify.limits import Gate
from edgedetr.export.verify.matching import Rule
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import versions_of

CALIBRATION_FRAMES = 64
PATH = click.Path(path_type=Path)

MEASURES = (
    "distill/edgedetr/distill/networks/fake_quantization.py",
    "distill/edgedetr/distill/training/qat.py",
    "export/edgedetr/export/qat.py",
    "export/edgedetr/export/transforms/qdq_nodes.py",
    "export/edgedetr/export/to_qdq.py",
    "export/edgedetr/export/transforms/quantize.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--student", type=PATH, required=True, help="The demo's student.safetensors.")
@click.option("--images", type=PATH, required=True)
@click.option("--frames", type=int, default=100, show_default=True, help="How many are compared.")
@result_option(__file__)
def main(student: Path, images: Path, frames: int, out: Path) -> None:
    """Export, compare and write the figures."""
    paths = list_images(images)
    half = len(paths) // 2
    seen = choose_frames(paths[half:], frames)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint, plain = folder / "student.safetensors", folder / "student.onnx"
        int8, mixed = folder / "student.int8.onnx", folder / "student.int8.fp16.onnx"
        prepare(student, checkpoint, choose_frames(paths[:half], CALIBRATION_FRAMES))
        export_onnx(checkpoint, plain)
        share = export_qdq(plain, None, int8, rest="fp32")
        export_qdq(plain, None, mixed, rest="fp16")
        pairs = {
            "simulation against the INT8 graph, rest FP32": (checkpoint, int8),
            "simulation against the INT8 graph, rest FP16": (checkpoint, mixed),
            "checkpoint in float against the float graph": (checkpoint, plain),
            "float graph against the INT8 graph, rest FP32": (plain, int8),
        }
        found = {what: measure(*pair, seen) for what, pair in pairs.items()}
    figures = {
        "versions": versions_of(("edgedetr", "torch", "onnx", "onnxruntime")),
        "calibration_frames": CALIBRATION_FRAMES,
        "int8": share.describe(),
        "pairs": found,
    }
    write_result(out, figures, MEASURES)


def prepare(student: Path, output: Path, images: list[Path]) -> None:
    """Give a student the steps with which a quantization-aware run starts."""
    model = load_model(student)
    reparameterize(model.network)
    quantization = calibrated(model, map(read_image, images), "", "")
    save_model(output, replace(model, quantization=quantization), command="-")


def measure(reference: Path, candidate: Path, images: list[Path]) -> dict[str, Any]:
    """Compare two models as ``edgedetr verify`` does."""
    report = verify(reference, candidate, ImageFiles(images, "verify"), Rule(), Gate())
    click.echo(report.table() + "\n")
    return {
        "passed": report.passed,
        "precisions": list(report.precisions),
        **asdict(report.figures),
    }


if __name__ == "__main__":
    main()
