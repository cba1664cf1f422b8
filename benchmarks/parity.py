"""Compare PyTorch with the exported ONNX files on real frames: every family at its smallest.

    python benchmarks/parity.py --images ../shared/data/kitti/training/image_2

Writes ``benchmarks/results/parity.json``. The weights are random, and the batch norms have measured
the first images, so that features and scores vary as a trained network's do; of every frame the 20
best detections are compared. The trained teacher in the repository is compared from score 0.3 up.

Random weights leave ties: on a few frames the 40th and the 41st query score the same to the last
bit, and whichever is taken changes what the others see. Where a comparison fails, frames on which
PyTorch itself answers otherwise once its input changes by a millionth are named and left out.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
from torch import nn

from edgedetr.bench.result_file import write_result
from edgedetr.distill.checkpoint import load_model, save_model
from edgedetr.distill.model import Model, new_model
from edgedetr.export.matching import Rule
from edgedetr.export.parity import Gate, compare, verify
from edgedetr.export.parity_report import FP32_LIMITS
from edgedetr.export.runners import TorchRunner
from edgedetr.export.to_onnx import PACKAGES, RULE, export_onnx
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import versions_of
from edgedetr.runtime.plugins import names
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.export.runners import Answer, Runner

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "parity.json"
TEACHER = ROOT / "distill" / "checkpoints" / "synth_teacher.safetensors"
SPEC = ModelSpec((384, 1248), ("Car", "Pedestrian", "Cyclist"))
PRESETS = ("edge-tiny",)
MILLIONTH = 1e-6
"""Of the span of an input, [0, 1]."""
SHAKES = 4
"""How often a frame is changed, each time otherwise."""

MEASURES = (
    "distill/edgedetr/distill/detectors",
    "export/edgedetr/export/deformable_attention.py",
    "export/edgedetr/export/roi_align.py",
    "export/edgedetr/export/simplify.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--json", "out", type=click.Path(path_type=Path), default=RESULT)
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
    report = verify(checkpoint, exported, map(read_image, paths), rule, Gate())
    tied: list[Path] = []
    if not report.passed:
        tied = [path for path in paths if is_tied(checkpoint, path, rule)]
        kept = [path for path in paths if path not in tied]
        report = verify(checkpoint, exported, map(read_image, kept), rule, Gate())
    click.echo(report.table())
    click.echo(f"tied frames: {', '.join(path.stem for path in tied) or 'none'}\n")
    return {
        **report.to_dict(),
        "tied_frames": [path.stem for path in tied],
        "nodes": done.nodes,
        "not_simplified": done.problem,
    }


def is_tied(checkpoint: Path, path: Path, rule: Rule) -> bool:
    """Tell whether a checkpoint answers a frame otherwise when it is changed by a millionth."""
    steady = TorchRunner(load_model(checkpoint))
    names = (checkpoint.name, f"{checkpoint.name}, shaken")
    frame = read_image(path)
    shaken = (compare(steady, Shaken(steady, seed), [frame], rule, names) for seed in range(SHAKES))
    return any(
        figures.unmatched
        or (figures.max_box_error_px or 0) > FP32_LIMITS.box_error_px
        or (figures.max_score_error or 0) > FP32_LIMITS.score_error
        for figures in shaken
    )


class Shaken:
    """A model whose input is changed by `MILLIONTH` before it answers."""

    def __init__(self, runner: Runner, seed: int) -> None:
        self.spec, self.precision = runner.spec, runner.precision
        self.batch_sizes = runner.batch_sizes
        self._runner = runner
        self._random = np.random.default_rng(seed)

    def __call__(self, images: NDArray[np.float32]) -> Answer:
        """Answer images (1, 3, H, W); see `Runner`."""
        noise = self._random.uniform(-MILLIONTH, MILLIONTH, images.shape)
        return self._runner((images + noise).astype(np.float32))


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
        model.module.predict(model.network, images)
    model.network.eval()
    return model


if __name__ == "__main__":
    main()
