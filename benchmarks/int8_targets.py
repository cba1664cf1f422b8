"""Measure what INT8 for each target costs on images that calibration never saw.

    python benchmarks/int8_targets.py --foreign ../shared/data/deimv2_femto_qr --run runs/demo \
        --data data/synth

Writes ``benchmarks/results/int8_targets.json``. The foreign model's images are dealt into two
halves, and each half is measured, as it is and in four light variations, with models calibrated on
the other. The demo's student is calibrated on its training frames four times, each time on others,
and measured on frames of another seed, also with its decoder's linear layers in INT8. Graphs run
with every Q/DQ pair as it is written; beside each stands the same graph without bias correction.
Speed is in ``int8_latency.py``.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import onnx

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.calib.bias_correction import mean_shifts
from edgedetr.calib.collect import collect
from edgedetr.calib.frames import kitti_images
from edgedetr.calib.targets import TARGETS
from edgedetr.distill.data.kitti import open_dataset
from edgedetr.distill.synth.writer import write_synth
from edgedetr.export.search.trial import Scenes, Trial
from edgedetr.export.transforms.quantize import quantize, quantized_share, rest_of, with_rest
from edgedetr.export.verify.limits import INT8_LIMITS
from edgedetr.graph.exact import exact_graph, exact_session
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.boxes import iou
from edgedetr.runtime.images import list_images
from edgedetr.runtime.kitti import image_paths
from edgedetr.runtime.manifest import versions_of
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import spec_from_toml
from foreign_model import MAX_SCORE_DROP, MIN_IOU, SPEC, variations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.runtime.spec import ModelSpec
    from edgedetr.runtime.types import Detections
    from foreign_model import Image

PATH = click.Path(path_type=Path)
HALVES = 2
CALIBRATION_FRAMES, SEEDS = 128, (0, 1, 2, 3)
FRESH_FRAMES, FRESH_SEED = 120, 77
DECODER = "decoder"
"""What else is INT8 in the demo's student, whose decoder loses nothing by it."""
PACKAGES = ("edgedetr", "onnx", "onnxruntime")

MEASURES = (
    "calib/edgedetr/calib/bias_correction.py",
    "calib/edgedetr/calib/collect.py",
    "calib/edgedetr/calib/histogram.py",
    "calib/edgedetr/calib/placement.py",
    "calib/edgedetr/calib/rounding.py",
    "calib/edgedetr/calib/scales.py",
    "export/edgedetr/export/transforms/biases.py",
    "export/edgedetr/export/transforms/qdq_nodes.py",
    "export/edgedetr/export/transforms/quantize.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--foreign", type=PATH, required=True, help="Folder of the foreign model.")
@click.option("--run", type=PATH, required=True, help="Folder of the demo's student.onnx.")
@click.option("--data", type=PATH, required=True, help="The demo's frames.")
@result_option(__file__)
def main(foreign: Path, run: Path, data: Path, out: Path) -> None:
    """Measure and write the figures."""
    figures = {
        "foreign": measure_foreign(foreign),
        "student": measure_student(run / "student.onnx", data),
        "limits": {"max_score_drop": MAX_SCORE_DROP, "min_iou": MIN_IOU},
        "versions": versions_of(PACKAGES),
    }
    write_result(out, figures, MEASURES)
    click.echo(json.dumps(figures, indent=1))


def graphs(
    model: onnx.ModelProto, stats: CalibrationStats, include: str = ""
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Make the graph of each target, corrected and not, and with further layers in INT8."""
    for target in TARGETS:
        for name, given in (("", stats), (", uncorrected", replace(stats, shifts={}))):
            made, _ = with_rest(quantize(model, given, target=target), stats, rest_of(target))
            yield target + name, made
    if include:
        for target in TARGETS:
            made, _ = with_rest(
                quantize(model, stats, include, target=target), stats, rest_of(target)
            )
            yield f"{target}, {include}", made


def measure_foreign(folder: Path) -> dict[str, Any]:
    """Measure the best box of the foreign model on images that calibration never saw."""
    path, spec = folder / "deimv2_femto_416.onnx", spec_from_toml(SPEC)
    model, images = onnx.load(path), list_images(folder / "images")
    errors: dict[str, list[tuple[bool, float, float]]] = {}
    shares = {}
    for half in range(HALVES):
        unseen = [image for i, image in enumerate(images) if i % HALVES == half]
        stats = collect(path, [image for image in images if image not in unseen], spec)
        varied = [v for image in unseen for v in variations(image)]
        wanted = answers(model, spec, varied)
        for name, graph in graphs(model, stats):
            share = quantized_share(graph)
            shares[name] = share.int8_macs / share.macs
            for image, best, found in zip(
                varied, wanted, answers(graph, spec, varied), strict=True
            ):
                overlaps = iou(best.boxes[:1], found.boxes)[0]
                near = int(overlaps.argmax())
                drop = float(best.scores[0] - found.scores[near])
                errors.setdefault(name, []).append(("," in image.name, drop, float(overlaps[near])))
    return {
        name: {
            "int8_share": round(shares[name], 4),
            "unseen": summary([e for e in found if not e[0]]),
            "unseen_varied": summary([e for e in found if e[0]]),
        }
        for name, found in errors.items()
    }


def answers(model: onnx.ModelProto, spec: ModelSpec, images: list[Image]) -> list[Detections]:
    """Run a graph on images, exactly as it is typed."""
    session = exact_session(exact_graph(model).model, "the model")
    preprocess, fed = Preprocessor(spec), np.zeros((1, 3, *spec.input_hw), np.float32)
    found = []
    for image in images:
        place = preprocess(image.pixels, fed[0])
        logits, boxes = session.run([spec.logits_name, spec.boxes_name], {spec.input_name: fed})
        found.append(postprocess(logits[0], boxes[0], place, spec, 0.0))
    return found


def summary(errors: list[tuple[bool, float, float]]) -> dict[str, float]:
    """Sum up score drops and overlaps."""
    return {
        "images": len(errors),
        "mean_score_error": round(float(np.mean([abs(drop) for _, drop, _ in errors])), 5),
        "mean_iou": round(float(np.mean([overlap for *_, overlap in errors])), 5),
        "beyond_limits": sum(d > MAX_SCORE_DROP or i < MIN_IOU for _, d, i in errors),
    }


def measure_student(path: Path, data: Path) -> dict[str, Any]:
    """Measure the demo's student on fresh frames, calibrated on each choice of frames."""
    model, training, found = load_onnx(path), kitti_images(data), {}
    with tempfile.TemporaryDirectory() as name:
        write_synth(Path(name), FRESH_FRAMES, FRESH_SEED)
        stats = collect(path, training[:1], corrects_bias=False)
        scenes = Scenes(
            tuple(image_paths(Path(name), "all").values()),
            open_dataset(Path(name), "all", stats.spec.class_names).truths,
        )
        with Trial(model, stats.spec, scenes) as trial:
            for seed in SEEDS:
                order = np.random.default_rng(seed).permutation(len(training))
                frames = [training[i] for i in order[:CALIBRATION_FRAMES]]
                stats, seconds = timed_calibration(path, frames)
                found[f"calibration {seed}"] = seconds | {
                    kind: effect(trial, graph)
                    for kind, graph in graphs(model, stats, DECODER)
                    if seed == SEEDS[0] or not kind.endswith("uncorrected")
                }
        return {"frames": len(trial), "fp32_ap": trial.ap, **found}


def timed_calibration(path: Path, frames: list[Path]) -> tuple[CalibrationStats, dict[str, float]]:
    """Calibrate, and return the seconds of the ranges and of the shifts."""
    start = perf_counter()
    stats = collect(path, frames, corrects_bias=False)
    middle = perf_counter()
    shifts = mean_shifts(load_onnx(path), stats.ranges, stats.spec, frames)
    times = {"ranges_s": middle - start, "shifts_s": perf_counter() - middle}
    return replace(stats, shifts=shifts), {name: round(t, 1) for name, t in times.items()}


def effect(trial: Trial, graph: onnx.ModelProto) -> dict[str, Any]:
    """Measure a graph beside FP32, and bound the share of detections that it loses."""
    measured, share = trial.effect(graph, "INT8"), quantized_share(graph)
    lost = measured.share(INT8_LIMITS)
    return {
        "int8_share": round(share.int8_macs / share.macs, 4),
        "ap_drop": measured.ap_drop,
        "p99_box_px": measured.figures.p99_box_error_px,
        "mean_score_error": measured.figures.mean_score_error,
        "lost_share": lost.share,
        "lost_share_high": lost.high,
        "passes": lost.holds(INT8_LIMITS.lost_share),
    }


if __name__ == "__main__":
    main()
