"""Measure quantization-aware distillation beside calibration alone, on the demo's student.

    python benchmarks/qat.py --student runs/demo/student.safetensors --data data/synth

Writes ``benchmarks/results/qat.json``. The student is trained on three times with
``distill/configs/synth_qat.toml``: as INT8 at the default points, as INT8 at every point that may
be quantized, and in float, which tells what INT8 gains apart from what more training does. AP is
that of the exported graph, which computes every Q/DQ pair as it is written, on the validation
split; what is not INT8 is FP32.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.calib.collect import collect
from edgedetr.calib.frames import choose_frames, kitti_images
from edgedetr.distill import recipe
from edgedetr.distill.config import load_config
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.export import qat
from edgedetr.export.search.trial import Trial, labelled_scenes
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.to_qdq import export_qdq
from edgedetr.export.transforms.quantize import quantize, quantized_share
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.manifest import versions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "distill" / "configs" / "synth_qat.toml"
PATH = click.Path(path_type=Path)
POINTS = {"default": "", "all": "."}
"""Which points are quantized: the expression that includes them beside the default ones."""

PACKAGES = ("edgedetr", "torch", "onnx", "onnxruntime")

MEASURES = (
    "distill/configs/synth_qat.toml",
    "distill/edgedetr/distill/networks/fake_quantization.py",
    "distill/edgedetr/distill/training/qat.py",
    "export/edgedetr/export/transforms/stored_ranges.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--student", type=PATH, required=True, help="The demo's student.safetensors.")
@click.option("--data", type=PATH, required=True, help="The demo's frames.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Of the config.")
@result_option(__file__)
def main(student: Path, data: Path, overrides: tuple[str, ...], out: Path) -> None:
    """Train, export and measure."""
    settings = [f"data.root={data}", f"student.init={student}", *overrides]
    config = load_config(CONFIG, settings)
    images = choose_frames(kitti_images(data), config.qat.frames)
    scenes = labelled_scenes(data, config.data.classes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = folder / "student.onnx"
        export_onnx(student, before)
        with Trial(load_onnx(before), load_model(student).spec, scenes) as trial:
            record: dict[str, Any] = {
                "frames": {"validation": len(trial), "calibration": len(images)},
                "as_it_was": {"fp32_ap": trial.ap, "int8": calibrated(trial, before, images)},
            }
            after = trained(folder / "float", [*settings, "qat.enabled=false"])
            record["trained_in_float"] = {
                "fp32_ap": trial.effect(load_onnx(after), "trained").ap,
                "int8": calibrated(trial, after, images),
            }
            record["trained_for_int8"] = {
                points: trained_for_int8(trial, folder / points, [*settings, f"qat.include={i}"])
                for points, i in POINTS.items()
            }
    record |= {
        "config": config.record(),
        "versions": versions_of(PACKAGES),
    }
    write_result(out, record, MEASURES)
    click.echo(json.dumps({k: v for k, v in record.items() if k != "config"}, indent=2))


def trained(folder: Path, settings: list[str]) -> Path:
    """Train the student on; return its ONNX file."""
    recipe.train(load_config(CONFIG, settings), folder, "python benchmarks/qat.py", qat.calibrated)
    export_onnx(folder / "student.safetensors", folder / "student.onnx")
    return folder / "student.onnx"


def trained_for_int8(trial: Trial, folder: Path, settings: list[str]) -> dict[str, Any]:
    """Train the student on as INT8; measure the simulation and the export, and it in float."""
    path = trained(folder, settings)
    int8 = path.with_suffix(".int8.onnx")
    export_qdq(path, None, int8, rest="fp32")
    simulated = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["metrics"]["ap"]
    return {
        "simulated_ap": 100 * simulated,
        "fp32_ap": trial.effect(load_onnx(path), "float").ap,
        **measured(trial, load_onnx(int8)),
    }


def calibrated(trial: Trial, path: Path, images: Sequence[Path]) -> dict[str, Any]:
    """Calibrate a model on frames and measure it in INT8, at each choice of points."""
    model, stats = load_onnx(path), collect(path, images)
    return {name: measured(trial, quantize(model, stats, i)) for name, i in POINTS.items()}


def measured(trial: Trial, model: onnx.ModelProto) -> dict[str, Any]:
    """Return a model's AP in points of per cent, and its share of operations in INT8."""
    share = quantized_share(model)
    return {
        "int8_nodes": share.nodes,
        "coverage": share.int8_macs / share.macs,
        "int8_ap": trial.effect(model, "int8").ap,
    }


if __name__ == "__main__":
    main()
