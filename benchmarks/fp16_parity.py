"""Compare typed FP16 with FP32 on real frames: the demo's student and teacher.

    python benchmarks/fp16_parity.py --images ../shared/data/kitti/training/image_2

Writes ``benchmarks/results/fp16_parity.json``. FP16 is computed exactly as it is typed: every
result of an FP16 node is rounded, which TensorRT, that fuses nodes, does less often. Ranges are
measured on made-up images, not on the frames of the comparison.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edgedetr.export.matching import MARGIN, Rule, match
from edgedetr.export.parity_report import FP16_LIMITS
from edgedetr.export.runners import OnnxRunner
from edgedetr.export.to_fp16 import export_fp16
from edgedetr.runtime.files import write_text
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.machine import machine_facts
from edgedetr.runtime.manifest import versions_of
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.runtime.types import Detections

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "fp16_parity.json"
MODELS = ("student", "teacher")


@click.command()
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--json", "out", type=click.Path(path_type=Path), default=RESULT)
def main(images: Path, out: Path) -> None:
    """Compare and write the figures; exit 1 where a limit does not hold."""
    paths = list_images(images)
    found = {name: measure(ROOT / "runs" / "demo" / f"{name}.onnx", paths) for name in MODELS}
    figures = {
        "command": shlex.join(["python", "benchmarks/fp16_parity.py", *sys.argv[1:]]),
        "machine": machine_facts(),
        "versions": versions_of(("edgedetr", "onnx", "onnxruntime")),
        "frames": len(paths),
        "limits": {"box_px": FP16_LIMITS.box_error_px, "score": FP16_LIMITS.score_error},
        "models": found,
    }
    write_text(out, json.dumps(figures, indent=2) + "\n")
    for name, values in found.items():
        click.echo(f"{name}: {json.dumps(values)}")
    sys.exit(not all(values["holds"] for values in found.values()))


def measure(model: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """Write a model as FP16 and match what both find above a score of 0.3."""
    with tempfile.TemporaryDirectory() as folder:
        half = Path(folder) / "half.onnx"
        share = export_fp16(model, half)
        runners = OnnxRunner(model), OnnxRunner(half)
    rule, pairs = Rule(), []
    for path in paths:
        image = read_image(path)
        a, b = (detections(runner, image, rule.threshold - MARGIN) for runner in runners)
        pairs.append(match(a, b, rule, runners[0].spec.max_detections))
    boxes = np.concatenate([p.box_errors_px for p in pairs])
    scores = np.concatenate([p.score_errors for p in pairs])
    limits = FP16_LIMITS
    return {
        "holds": bool(boxes.max() <= limits.box_error_px and scores.max() <= limits.score_error),
        "matched": len(boxes),
        "unmatched": sum(p.unmatched for p in pairs),
        "box_error_px": spread(boxes),
        "score_error": spread(scores),
        "beyond_a_limit": int(
            ((boxes > limits.box_error_px) | (scores > limits.score_error)).sum()
        ),
        "graph": share.describe(),
    }


def detections(runner: OnnxRunner, image: NDArray[np.uint8], threshold: float) -> Detections:
    """Run a model on an image."""
    spec, fed = runner.spec, np.zeros((1, 3, *runner.spec.input_hw), np.float32)
    place = Preprocessor(spec)(image, fed[0])
    logits, boxes = runner(fed)
    return postprocess(logits[0], boxes[0], place, spec, threshold)


def spread(errors: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Return mean, 99th percentile and maximum."""
    values = {"mean": errors.mean(), "p99": np.percentile(errors, 99), "max": errors.max()}
    return {name: float(f"{value:.3g}") for name, value in values.items()}


if __name__ == "__main__":
    main()
