r"""Compare typed FP16 with FP32 on real frames: the demo's student and teacher.

    python benchmarks/fp16_parity.py --images ../shared/data/kitti/training/image_2 \
        --chosen-on ../shared/data/kitti_stream

Writes ``benchmarks/results/fp16_parity.json``. FP16 is computed exactly as it is typed: every
result of an FP16 node is rounded, which TensorRT, that fuses nodes, does less often. Each model is
exported anew and becomes FP16 twice: ``by_rule``, with ranges measured on made-up images, and with
the blocks kept in FP32 that hold the limits on the frames of ``--chosen-on``, as ``edgedetr export
fp16 --images --max-score-error`` does it. Neither sees a frame of the comparison. Frames on which
the two precisions choose other queries, by a near tie at the last place of the choice, count like
all others, and are counted.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import onnx

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.export.search.fp32_blocks import Request
from edgedetr.export.to_fp16 import export_fp16, frames_of
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.verify.limits import FP16_LIMITS
from edgedetr.export.verify.lost_share import lost_share
from edgedetr.export.verify.matching import MARGIN, Rule, match
from edgedetr.export.verify.runners.onnx import OnnxRunner
from edgedetr.graph.exact import exact_session, run_session
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import versions_of
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.runtime.types import Detections

ROOT = Path(__file__).parents[1]
FAR_PX, FAR_SCORE = 2.0, 5e-3
"""Beyond these a pair is counted as far off; the gate allows more."""
MODELS = {
    "student": ROOT / "runs" / "demo" / "student.safetensors",
    "teacher": ROOT / "distill" / "checkpoints" / "synth_teacher.safetensors",
}
CHOICE = 50
"""Frames of ``--chosen-on`` that blocks are chosen on, evenly spread."""

MEASURES = (
    "distill/configs/synth.toml",
    "export/edgedetr/export/transforms/typed_graph.py",
    "export/edgedetr/export/transforms/fp32_rules.py",
    "export/edgedetr/export/transforms/fp16_rounding.py",
    "export/edgedetr/export/to_fp16.py",
    "export/edgedetr/export/transforms/halve.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--chosen-on", type=click.Path(path_type=Path), required=True)
@result_option(__file__)
def main(images: Path, chosen_on: Path, out: Path) -> None:
    """Compare and write the figures; exit 1 where a limit does not hold as measured."""
    paths = list_images(images)
    found = {
        name: measure(checkpoint, paths, Request(chosen_on, CHOICE, FP16_LIMITS))
        for name, checkpoint in MODELS.items()
    }
    figures = {
        "versions": versions_of(("edgedetr", "onnx", "onnxruntime")),
        "frames": len(paths),
        "limits": asdict(FP16_LIMITS),
        "counted_beyond": {"box_px": FAR_PX, "score": FAR_SCORE},
        "models": found,
    }
    write_result(out, figures, MEASURES)
    for name, values in found.items():
        click.echo(f"{name}: {json.dumps(values)}")
    sys.exit(not all(values["holds"] for values in found.values()))


def measure(checkpoint: Path, paths: Sequence[Path], request: Request) -> dict[str, Any]:
    """Export a checkpoint, write it as FP16 in both ways and compare each with FP32."""
    with tempfile.TemporaryDirectory() as folder:
        model, half = (Path(folder) / f"{name}.onnx" for name in ("model", "half"))
        export_onnx(checkpoint, model)
        share = export_fp16(model, half)
        by_rule = {**compare(model, half, paths), "graph": share.describe()}
        try:
            share = export_fp16(model, half, frames=frames_of(request.images), request=request)
        except GateError as error:
            return {**by_rule, "holds": False, "refused": str(error), "by_rule": by_rule}
        measured = {**compare(model, half, paths), "graph": share.describe()}
    fp32 = round(1 - share.half_macs / share.macs, 4)
    return {**measured, "kept": share.kept, "fp32_share_of_macs": fp32, "by_rule": by_rule}


def compare(model: Path, half: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """Match what both find above a score of 0.3."""
    sides, rule = (Side(model), Side(half)), Rule()
    pairs, others = [], 0
    for path in paths:
        image = read_image(path)
        (a, ours), (b, theirs) = (side(image, rule.threshold - MARGIN) for side in sides)
        pairs.append(match(a, b, rule, sides[0].runner.spec.max_detections))
        others += ours != theirs
    boxes = np.concatenate([p.box_errors_px for p in pairs])
    scores = np.concatenate([p.score_errors for p in pairs])
    lost = [p.lost(FP16_LIMITS) for p in pairs]
    share = lost_share(lost, [p.compared for p in pairs])
    return {
        "holds": share.verdict(FP16_LIMITS.lost_share) == "passed",
        "lost_share": share.share,
        "lost_share_high": share.high,
        "matched": len(boxes),
        "unmatched": sum(p.unmatched for p in pairs),
        "box_error_px": spread(boxes),
        "score_error": spread(scores),
        "beyond_a_limit": int(((boxes > FAR_PX) | (scores > FAR_SCORE)).sum()),
        "frames_of_another_choice": others,
    }


class Side:
    """A model that also tells which queries it chose.

    Args:
        path: An ONNX file whose first TopK is the choice of queries.
    """

    def __init__(self, path: Path) -> None:
        self.runner = OnnxRunner(path)
        graph = self.runner.graph.model
        choice = next(node for node in graph.graph.node if node.op_type == "TopK").output[1]
        tapped = onnx.ModelProto()
        tapped.CopyFrom(graph)
        tapped.graph.output.append(onnx.ValueInfoProto(name=choice))
        self._names = [self.runner.spec.logits_name, self.runner.spec.boxes_name, choice]
        self._session = exact_session(tapped, str(path))
        self._fed = np.zeros((1, 3, *self.runner.spec.input_hw), np.float32)
        self._preprocess = Preprocessor(self.runner.spec)

    def __call__(
        self, image: NDArray[np.uint8], threshold: float
    ) -> tuple[Detections, frozenset[int]]:
        """Return what it finds in an image, and its queries."""
        place = self._preprocess(image, self._fed[0])
        feeds = {self.runner.spec.input_name: self._fed}
        logits, boxes, chosen = run_session(self._session, self._names, feeds, "the model")
        found = postprocess(logits[0], boxes[0], place, self.runner.spec, threshold)
        return found, frozenset(chosen.ravel().tolist())


def spread(errors: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Return mean, 99th percentile and maximum."""
    values = {"mean": errors.mean(), "p99": np.percentile(errors, 99), "max": errors.max()}
    return {name: float(f"{value:.3g}") for name, value in values.items()}


if __name__ == "__main__":
    main()
