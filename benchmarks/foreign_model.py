"""Quantize a DETR that others trained, and measure what INT8 and FP16 cost it on its own images.

    python benchmarks/foreign_model.py --data ../shared/data/deimv2_femto_qr

Writes ``benchmarks/results/foreign_model.json``. No image is measured with a model that was
calibrated on it: the images are dealt into `FOLDS`, and those of each are measured with models of
all others, as they are and in four light variations. Each box that the float32 model is sure of is
compared with the nearest box of the typed ones, computed exactly as they are typed. Beside them
stands what ``onnxruntime.quantization.quantize_static`` makes with its defaults and the same
images. How the images are resized is tried first: the model does not say.
"""

from __future__ import annotations

import logging
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

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.calib.collect import collect
from edgedetr.export.to_fp16 import export_fp16
from edgedetr.export.to_qdq import export_qdq
from edgedetr.graph.exact import exact_graph, exact_session
from edgedetr.graph.macs import int8_macs, macs
from edgedetr.runtime.boxes import iou
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import versions_of
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec, spec_from_toml

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgedetr.runtime.types import Detections

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "benchmarks" / "specs" / "deimv2_femto_qr.toml"
MAX_SCORE_DROP, MIN_IOU = 0.05, 0.95
SURE = 0.3
"""Lowest score of a float32 box that must be kept."""
FOLDS = 5
OURS = ("fp16", "int8_rest_fp16", "int8_rest_fp32")

MEASURES = (
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
    "export/edgedetr/export/transforms/typed_graph.py",
    "export/edgedetr/export/transforms/fp32_rules.py",
    "export/edgedetr/export/transforms/fp16_rounding.py",
    "export/edgedetr/export/to_fp16.py",
    "export/edgedetr/export/transforms/halve.py",
)
"""What makes these figures: once it changes, they are stale."""


@dataclass(frozen=True, eq=False)
class Image:
    """A photograph and its name."""

    name: str
    pixels: NDArray[np.uint8]


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@result_option(__file__)
def main(data: Path, out: Path) -> None:
    """Measure and write the figures; exit 1 where the INT8 limits do not hold."""
    model, spec = data / "deimv2_femto_416.onnx", spec_from_toml(SPEC)
    paths = list_images(data / "images")
    boxes: dict[str, list[Kept]] = {}
    sizes: dict[str, dict[str, float]] = {}
    for fold in range(FOLDS):
        unseen = [p for i, p in enumerate(paths) if i % FOLDS == fold]
        others = [p for p in paths if p not in unseen]
        images = [varied for path in unseen for varied in variations(path)]
        with tempfile.TemporaryDirectory() as name:
            made = make(model, spec, others, [read(path) for path in others], Path(name))
            reference = answers(model, spec, images)
            for kind, path in made.items():
                boxes.setdefault(kind, []).extend(kept(reference, answers(path, spec, images)))
                sizes.setdefault(kind, shares(path))
    found = {
        kind: summary([box for box in of_kind if box.is_plain])
        | {"variations": summary([box for box in of_kind if not box.is_plain])}
        | sizes[kind]
        | {"boxes": [box.figures() for box in of_kind if box.is_plain]}
        for kind, of_kind in boxes.items()
    }
    holds = all(found[kind]["holds"] for kind in OURS)
    figures = {
        "versions": versions_of(("edgedetr", "onnx", "onnxruntime")),
        "model": model.name,
        "images": {
            "measured": len(paths),
            "calibrated_on": f"the {len(paths) - len(paths) // FOLDS} that are not measured",
            "folds": FOLDS,
            "variations": [*VARIATIONS],
        },
        "limits": {"max_score_drop": MAX_SCORE_DROP, "min_iou": MIN_IOU, "hold": holds},
        "resize": resizes(model, spec, [read(path) for path in paths]),
        "precisions": found,
    }
    write_result(out, figures, MEASURES)
    for kind, values in found.items():
        words = (f"{key} {values[key]:.4f}" for key in ("max_score_drop", "min_iou", "int8_share"))
        within = [f"{v['within']} of {v['images']}" for v in (values, values["variations"])]
        click.echo(f"{kind}: {', '.join(words)}, within the limits {', varied '.join(within)}")
    sys.exit(not holds)


def read(path: Path) -> Image:
    """Read an image."""
    return Image(path.name, read_image(path))


def variations(path: Path) -> list[Image]:
    """Return an image as it is, and as it might as well have been taken."""
    image = read(path)
    varied = [
        Image(f"{path.name}, {name}", vary(image.pixels)) for name, vary in VARIATIONS.items()
    ]
    return [image, *varied]


def _noisy(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, 4, pixels.shape)
    return _grey_levels(pixels + noise)


def _grey_levels(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


VARIATIONS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "20 grey levels brighter": lambda pixels: _grey_levels(pixels + 20.0),
    "contrast 0.85": lambda pixels: _grey_levels(128 + 0.85 * (pixels - 128.0)),
    "noise of 4 grey levels": _noisy,
    "shifted by 4 px": lambda pixels: np.pad(pixels, ((4, 0), (4, 0), (0, 0)), "edge")[:-4, :-4],
}


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


@dataclass(frozen=True)
class Kept:
    """What became of a float32 box: the nearest box of another model.

    Attributes:
        image: Name of the image.
        fp32_score: How sure float32 is of it.
        score: How sure the other model is of its own.
        iou: How far the two overlap.
    """

    image: str
    fp32_score: float
    score: float
    iou: float

    @property
    def score_drop(self) -> float:
        """Return by how much the score fell."""
        return self.fp32_score - self.score

    @property
    def is_plain(self) -> bool:
        """Tell an image as it is from a variation."""
        return "," not in self.image

    @property
    def holds(self) -> bool:
        """Whether it is within the limits."""
        return self.score_drop <= MAX_SCORE_DROP and self.iou >= MIN_IOU

    def figures(self) -> dict[str, str | float]:
        """Return it for JSON."""
        numbers = {"fp32_score": self.fp32_score, "score_drop": self.score_drop, "iou": self.iou}
        return {"image": self.image, **{k: round(v, 5) for k, v in numbers.items()}}


def kept(reference: dict[str, Detections], found: dict[str, Detections]) -> list[Kept]:
    """Find for each box that float32 is sure of the nearest of another model."""
    boxes = []
    for name, wanted in reference.items():
        sure = int((wanted.scores >= SURE).sum())
        overlaps = iou(wanted.boxes[:sure], found[name].boxes)
        for i, row in enumerate(overlaps):
            near = int(row.argmax())
            scores = float(wanted.scores[i]), float(found[name].scores[near])
            boxes.append(Kept(name, *scores, float(row[near])))
    return boxes


def summary(boxes: list[Kept]) -> dict[str, Any]:
    """Write how far boxes moved, and in how many images all of them are within the limits."""
    images = {box.image for box in boxes}
    broken = {box.image for box in boxes if not box.holds}
    drops, overlaps = [box.score_drop for box in boxes], [box.iou for box in boxes]
    return {
        "holds": not broken,
        "images": len(images),
        "within": len(images) - len(broken),
        "sure_boxes": len(boxes),
        "max_score_drop": round(max(drops), 5),
        "mean_score_drop": round(float(np.mean(drops)), 5),
        "min_iou": round(min(overlaps), 5),
        "mean_iou": round(float(np.mean(overlaps)), 5),
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
