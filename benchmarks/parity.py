"""Compare PyTorch with the exported ONNX files on real frames: every family at its smallest.

    python benchmarks/parity.py --images ../shared/data/kitti/training/image_2

Writes ``benchmarks/results/parity.json``. The weights are random, and the batch norms have measured
the first images, so that features and scores vary as a trained network's do; of every frame the 20
best detections are compared. The trained teacher in the repository is compared from score 0.3 up.

Random weights leave ties: on a few frames the 40th and the 41st query score the same to the last
bit, and whichever is taken changes what the others see. Such frames are compared with one choice,
as `edgedetr verify` does, and counted.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch
from torch import nn

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.distill.model import Model, new_model
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.export.to_onnx import PACKAGES, RULE, export_onnx
from edgedetr.export.verify.compare import verify
from edgedetr.export.verify.frames import ImageFiles
from edgedetr.export.verify.limits import Gate
from edgedetr.export.verify.matching import Rule
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import versions_of
from edgedetr.runtime.plugins import names
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence


ROOT = Path(__file__).parents[1]
TEACHER = ROOT / "distill" / "checkpoints" / "synth_teacher.safetensors"
SPEC = ModelSpec((384, 1248), ("Car", "Pedestrian", "Cyclist"))
PRESETS = ("edge-tiny",)
MEASURES = (
    "distill/edgedetr/distill/detectors",
    "export/edgedetr/export/transforms/deformable_attention.py",
    "export/edgedetr/export/transforms/roi_align.py",
    "export/edgedetr/export/transforms/simplify.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--images", type=click.Path(path_type=Path), required=True)
@result_option(__file__)
def main(images: Path, out: Path) -> None:
    """Compare and write the figures; exit 1 where a gate does not hold."""
    paths = list_images(images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {"synth_teacher": measure(TEACHER, folder, paths, Rule())}
        for family in names("edgedetr.distill.detectors"):
            for preset in PRESETS:
                checkpoint = folder / f"{family}-{preset}.safetensors"
                save_model(checkpoint, settled_model(family, preset, paths), command="random")
                found[checkpoint.stem] = measure(checkpoint, folder, paths, RULE)
    figures = {
        "versions": versions_of((*PACKAGES, "onnxruntime")),
        "random_weights": f"all but synth_teacher, {SPEC.input_hw[0]}x{SPEC.input_hw[1]}",
        "models": found,
    }
    write_result(out, figures, MEASURES)
    sys.exit(not all(model["passed"] for model in found.values()))


def measure(checkpoint: Path, folder: Path, paths: Sequence[Path], rule: Rule) -> dict[str, Any]:
    """Export a checkpoint and compare it with its ONNX file on all frames."""
    exported = folder / f"{checkpoint.stem}.onnx"
    done = export_onnx(checkpoint, exported)
    report = verify(checkpoint, exported, ImageFiles(paths, "verify"), rule, Gate())
    click.echo(report.table())
    return {
        **report.to_dict(),
        "nodes": done.nodes,
        "not_simplified": done.problem,
    }


def settled_model(family: str, preset: str, paths: Sequence[Path], spec: ModelSpec = SPEC) -> Model:
    """Make a model of random weights whose batch norms have measured four images."""
    torch.manual_seed(0)
    model = new_model(family, preset, spec)
    images = torch.zeros(4, 3, *spec.input_hw)
    preprocess = Preprocessor(spec)
    for image, path in zip(images, paths, strict=False):
        preprocess(read_image(path), image.numpy())
    with torch.no_grad():
        for parameter in model.network.parameters():  # heads that start at zero say nothing
            parameter.add_(0.02 * torch.randn_like(parameter) * parameter.requires_grad)
        model.network.eval()
        for module in model.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train()
                module.momentum = None
        model.predict(images)
    model.network.eval()
    return model


if __name__ == "__main__":
    main()
