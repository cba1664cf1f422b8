r"""Measure what it costs, and what it saves FP16, that the weakest chosen queries fade.

    python benchmarks/choice_fading.py --data data/synth \
        --images ../shared/data/kitti/training/image_2

Writes ``benchmarks/results/choice_fading.json``. The demo's student and teacher are exported as
they are and with every query seen in full: the accuracy of both on a labelled split, and how far
FP16, typed by rule, is from FP32 on real frames.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import click

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.distill.data.kitti import open_dataset
from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.distill.networks import query_fade
from edgedetr.export.to_fp16 import export_fp16
from edgedetr.export.to_onnx import export_onnx
from edgedetr.runtime.detector import Detector
from edgedetr.runtime.images import list_images
from edgedetr.runtime.manifest import versions_of
from fp16_parity import MODELS, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from edgedetr.distill.data import Dataset

PATH = click.Path(path_type=Path)

MEASURES = ("distill/edgedetr/distill/networks/query_fade.py",)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--data", type=PATH, required=True, help="A KITTI folder.")
@click.option("--images", type=PATH, required=True)
@result_option(__file__)
def main(data: Path, images: Path, out: Path) -> None:
    """Measure and write the figures."""
    dataset = open_dataset(data, "val", ("Car", "Pedestrian", "Cyclist"))
    paths = list_images(images)
    found = {}
    for name, checkpoint in MODELS.items():
        found[name] = {"faded": measure(checkpoint, dataset, paths)}
        with mock.patch.object(query_fade, "attention_bias", seen_in_full):
            found[name]["seen_in_full"] = measure(checkpoint, dataset, paths)
    figures = {
        "versions": versions_of(("edgedetr", "onnx", "onnxruntime")),
        "fade": query_fade.FADE,
        "labelled_frames": len(dataset),
        "real_frames": len(paths),
        "models": found,
    }
    write_result(out, figures, MEASURES)
    click.echo(json.dumps(found, indent=2))


def seen_in_full(scores: Tensor) -> Tensor:
    """Return a bias that changes nothing."""
    return 0 * scores[:, None, None]


def measure(checkpoint: Path, dataset: Dataset, paths: Sequence[Path]) -> dict[str, Any]:
    """Export a checkpoint; measure its accuracy, and FP16 against FP32."""
    with tempfile.TemporaryDirectory() as folder:
        model, half = (Path(folder) / f"{name}.onnx" for name in ("model", "half"))
        export_onnx(checkpoint, model)
        with Detector.open(model, threshold=0.0) as detector:
            found = [detector.detect(dataset[i].frame) for i in range(len(dataset))]
        scores = coco_ap(dataset.truths, found, dataset.class_names)
        export_fp16(model, half)
        return {"ap": scores.ap, "ap50": scores.ap50, "fp16": compare(model, half, paths)}


if __name__ == "__main__":
    main()
