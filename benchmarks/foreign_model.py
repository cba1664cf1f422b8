"""Quantize a DETR that others trained, and measure what INT8 and FP16 cost it on its own images.

    python benchmarks/foreign_model.py --data ../shared/data/deimv2_femto_qr

Writes ``benchmarks/results/foreign_model.json``. Of every image the best box of the float32 model
is compared with the best box of the typed ones, computed exactly as they are typed. Beside them
stands what ``onnxruntime.quantization.quantize_static`` makes with its defaults and the same
images. How the images are resized is tried first: the model does not say.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from typing_extensions import override

from edgedetr.calib.collect import collect
from edgedetr.export.exact import exact_graph, exact_session
from edgedetr.export.graph import int8_macs, macs
from edgedetr.export.to_fp16 import export_fp16
from edgedetr.export.to_qdq import export_qdq
from edgedetr.runtime.boxes import iou
from edgedetr.runtime.files import write_text
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.machine import machine_facts
from edgedetr.runtime.manifest import versions_of
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec, spec_from_toml

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedetr.runtime.types import Detections

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "foreign_model.json"
SPEC = ROOT / "benchmarks" / "specs" / "deimv2_femto_qr.toml"
MAX_SCORE_DROP, MIN_IOU = 0.05, 0.95
OURS = ("fp16", "int8_rest_fp16", "int8_rest_fp32")


@dataclass(frozen=True, eq=False)
class Image:
    """A photograph and its name."""

    name: str
    pixels: NDArray[np.uint8]


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--json", "out", type=click.Path(path_type=Path), default=RESULT)
def main(data: Path, out: Path) -> None:
    """Measure and write the figures; exit 1 where the INT8 limits do not hold."""
    model, spec = data / "deimv2_femto_416.onnx", spec_from_toml(SPEC)
    paths = list_images(data / "images")
    seen = [Image(path.name, read_image(path)) for path in paths]
    with tempfile.TemporaryDirectory() as name:
        made = make(model, spec, paths, seen, Path(name))
        reference = answers(model, spec, seen)
        found = {
            kind: compare(reference, answers(path, spec, seen)) | shares(path)
            for kind, path in made.items()
        }
    holds = all(found[kind]["holds"] for kind in OURS)
    figures = {
        "command": shlex.join(["python", "benchmarks/foreign_model.py", *sys.argv[1:]]),
        "machine": machine_facts(),
        "versions": versions_of(("edgedetr", "onnx", "onnxruntime")),
        "model": model.name,
        "limits": {"max_score_drop": MAX_SCORE_DROP, "min_iou": MIN_IOU, "hold": holds},
        "resize": resizes(model, spec, seen),
        "precisions": found,
    }
    write_text(out, json.dumps(figures, indent=2) + "\n")
    for kind, values in found.items():
        words = (f"{key} {values[key]:.4f}" for key in ("max_score_drop", "min_iou", "int8_share"))
        click.echo(f"{kind}: {', '.join(words)}")
    sys.exit(not holds)


def make(
    model: Path, spec: ModelSpec, paths: list[Path], seen: list[Image], folder: Path
) -> dict[str, Path]:
    """Write the model in each precision."""
    made = {kind: folder / f"{kind}.onnx" for kind in (*OURS, "quantize_static_default")}
    stats = folder / "stats.json"
    collect(model, paths, spec).write(stats)
    export_fp16(model, made["fp16"], spec, (image.pixels for image in seen))
    export_qdq(model, stats, made["int8_rest_fp32"], rest="fp32", spec=spec)
    frames = (image.pixels for image in seen)
    export_qdq(model, stats, made["int8_rest_fp16"], spec=spec, frames=frames)
    logging.getLogger().setLevel(logging.ERROR)  # it recommends to simplify the model first
    quantize_static(model, made["quantize_static_default"], _Reader(spec, seen))
    return made


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands the images to ONNX Runtime's calibration."""

    def __init__(self, spec: ModelSpec, seen: list[Image]) -> None:
        self._spec = spec
        self._fed = iter([_fed(spec, image) for image in seen])

    @override
    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        images = next(self._fed, None)
        return None if images is None else {self._spec.input_name: images}


def _fed(spec: ModelSpec, image: Image) -> NDArray[np.float32]:
    fed = np.zeros((1, 3, *spec.input_hw), np.float32)
    Preprocessor(spec)(image.pixels, fed[0])
    return fed


def answers(path: Path, spec: ModelSpec, seen: list[Image]) -> dict[str, Detections]:
    """Run a model on all images, exactly as it is typed."""
    session = exact_session(exact_graph(onnx.load(path)).model, path.name)
    names = [spec.logits_name, spec.boxes_name]
    preprocess, fed = Preprocessor(spec), np.zeros((1, 3, *spec.input_hw), np.float32)
    found = {}
    for image in seen:
        place = preprocess(image.pixels, fed[0])
        logits, boxes = session.run(names, {spec.input_name: fed})
        found[image.name] = postprocess(logits[0], boxes[0], place, spec, 0.0)
    return found


def compare(reference: dict[str, Detections], found: dict[str, Detections]) -> dict[str, Any]:
    """Compare the best boxes of each image."""
    images = {
        name: {
            "fp32_score": round(float(best.scores[0]), 5),
            "score": round(float(found[name].scores[0]), 5),
            "score_drop": round(float(best.scores[0] - found[name].scores[0]), 5),
            "iou": round(float(iou(best.boxes[:1], found[name].boxes[:1])[0, 0]), 5),
        }
        for name, best in reference.items()
    }
    drops, ious = ([values[key] for values in images.values()] for key in ("score_drop", "iou"))
    return {
        "holds": max(drops) <= MAX_SCORE_DROP and min(ious) >= MIN_IOU,
        "max_score_drop": max(drops),
        "mean_score_drop": round(float(np.mean(drops)), 5),
        "min_iou": min(ious),
        "mean_iou": round(float(np.mean(ious)), 5),
        "images": images,
    }


def shares(path: Path) -> dict[str, float]:
    """Return the share of INT8 multiply-accumulates and the size."""
    model = onnx.load(path)
    inside, whole = sum(int8_macs(model).values()), sum(macs(model).values())
    return {
        "int8_share": round(inside / whole, 4),
        "size_mib": round(path.stat().st_size / 2**20, 3),
    }


def resizes(model: Path, spec: ModelSpec, seen: list[Image]) -> dict[str, dict[str, float]]:
    """Return the best scores of each way to bring images to the network's size."""
    ways = {
        "stretch": replace(spec, resize="stretch"),
        "letterbox_black": replace(spec, resize="letterbox", pad_value=0),
        "letterbox_grey": replace(spec, resize="letterbox", pad_value=114),
    }
    figures = {}
    for name, way in ways.items():
        scores = [found.scores[0] for found in answers(model, way, seen).values()]
        mean, least = float(np.mean(scores)), float(np.min(scores))
        figures[name] = {"mean_score": round(mean, 4), "least_score": round(least, 4)}
    return figures


if __name__ == "__main__":
    main()
