"""Quantize the demo's student, and find how much of it may run in INT8.

    python benchmarks/int8_student.py --run runs/demo --data data/synth

Writes ``benchmarks/results/int8_student.json`` and exits 1 where the default quantization loses
more than half a point of AP, or has less than 60 % of the multiply-accumulates in INT8. Models
compute every Q/DQ pair as it is written; what is not INT8 is FP32, or FP16 where the name says so.
Frames of another seed, which no choice has seen, stand beside.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.calib.collect import collect
from edgedetr.calib.frames import choose_frames, kitti_images
from edgedetr.calib.stats import default_stats_path
from edgedetr.distill.data.kitti import open_dataset
from edgedetr.distill.synth.writer import write_synth
from edgedetr.export.search.coverage_record import coverage_path, read_coverage
from edgedetr.export.search.int8_choice import Request, choose_coverage
from edgedetr.export.search.trial import Scenes, Trial, labelled_scenes
from edgedetr.export.to_qdq import export_qdq
from edgedetr.export.transforms.quantize import quantized_share
from edgedetr.export.verify.limits import INT8_LIMITS
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.kitti import image_paths
from edgedetr.runtime.manifest import versions_of

if TYPE_CHECKING:
    from edgedetr.runtime.spec import ModelSpec

PATH = click.Path(path_type=Path)
MAX_AP_DROP, MIN_COVERAGE = 0.5, 0.6
CALIBRATION_FRAMES = 128
DEMO_FRAMES, DEMO_SEED = 900, 0
FRESH_FRAMES, FRESH_SEED = 300, 1
PACKAGES = ("edgedetr", "onnx", "onnxruntime")

MEASURES = (
    "distill/configs/synth.toml",
    "calib/edgedetr/calib/bias_correction.py",
    "calib/edgedetr/calib/collect.py",
    "calib/edgedetr/calib/histogram.py",
    "calib/edgedetr/calib/placement.py",
    "calib/edgedetr/calib/rounding.py",
    "calib/edgedetr/calib/scales.py",
    "export/edgedetr/export/transforms/biases.py",
    "export/edgedetr/export/transforms/trained_ranges.py",
    "export/edgedetr/export/transforms/qdq_nodes.py",
    "export/edgedetr/export/to_qdq.py",
    "export/edgedetr/export/transforms/quantize.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--run", type=PATH, required=True, help="Folder of the demo's student.onnx.")
@click.option("--data", type=PATH, required=True, help="The demo's frames; rendered if missing.")
@result_option(__file__)
def main(run: Path, data: Path, out: Path) -> None:
    """Measure and write the figures."""
    write_synth(data, DEMO_FRAMES, DEMO_SEED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        student = Path(shutil.copy(run / "student.onnx", folder))
        stats = default_stats_path(student)
        ranges = collect(student, choose_frames(kitti_images(data), CALIBRATION_FRAMES))
        ranges.write(stats)
        names = ("default", "default_rest_fp16", "measured")
        models = {name: folder / f"student.{name}.onnx" for name in names}
        export_qdq(student, stats, models["default"], rest="fp32")
        export_qdq(student, stats, models["default_rest_fp16"], rest="fp16")
        request = Request(data, len(image_paths(data, "val")), MAX_AP_DROP)
        chosen = choose_coverage(student, stats, models["measured"], request)
        patterns = chosen.include, chosen.exclude
        export_qdq(student, stats, models["measured"], *patterns, rest="fp32")
        search = read_coverage(coverage_path(models["measured"]))
        classes = ranges.spec.class_names
        write_synth(folder / "fresh", FRESH_FRAMES, FRESH_SEED)
        fresh = Scenes(
            tuple(image_paths(folder / "fresh", "all").values()),
            open_dataset(folder / "fresh", "all", classes).truths,
        )
        found = {
            "validation_split": compare(
                student, models, ranges.spec, labelled_scenes(data, classes)
            ),
            "fresh_frames": compare(student, models, ranges.spec, fresh),
        }
    defaults = [found["validation_split"][n] for n in models if n.startswith("default")]
    passed = all(
        model["ap_drop"] <= MAX_AP_DROP and model["coverage"] >= MIN_COVERAGE for model in defaults
    )
    record = {
        "passed": passed,
        "limits": {"max_ap_drop": MAX_AP_DROP, "min_coverage": MIN_COVERAGE},
        **found,
        "search": asdict(search),
        "versions": versions_of(PACKAGES),
    }
    write_result(out, record, MEASURES)
    click.echo(json.dumps({"passed": passed, **found}, indent=2))
    sys.exit(not passed)


def compare(
    student: Path, models: dict[str, Path], spec: ModelSpec, scenes: Scenes
) -> dict[str, Any]:
    """Measure INT8 models beside the FP32 one on the same labelled frames."""
    with Trial(load_onnx(student), spec, scenes) as trial:
        found: dict[str, Any] = {"frames": len(trial), "fp32_ap": trial.ap}
        for name, path in models.items():
            model = load_onnx(path)
            share, effect = quantized_share(model), trial.effect(model, name)
            found[name] = {
                "coverage": share.int8_macs / share.macs,
                "figures": asdict(effect.figures),
                "ap": effect.ap,
                "ap_drop": effect.ap_drop,
                "lost_share": effect.share(INT8_LIMITS).share,
            }
    return found


if __name__ == "__main__":
    main()
