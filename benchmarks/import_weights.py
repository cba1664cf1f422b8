r"""Measure the import of weights: time, memory, the same answers on real frames, and FP16.

    python benchmarks/import_weights.py --images ../shared/data/kitti/training/image_2

Writes ``benchmarks/results/import_weights.json``. A D-FINE-L with random weights is imported in a
process of its own; its memory is what the process takes beyond its libraries at its peak. The
demo's teacher is written as a folder of transformers, imported and exported: what it finds on real
frames is compared with transformers' own model and image processor, with their resize and with
ours, and FP16, typed by rule, with FP32, without the query fade and with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
import transformers

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.distill.model import new_model
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.importing import import_model
from edgedetr.export.to_fp16 import export_fp16
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.verify.matching import MARGIN, Rule, match
from edgedetr.export.verify.runners.onnx import OnnxRunner
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import versions_of
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor, placement
from edgedetr.runtime.spec import ModelSpec
from fp16_parity import compare, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.distill.model import Model
    from edgedetr.runtime.types import Detections

ROOT = Path(__file__).parents[1]
TEACHER = ROOT / "distill" / "checkpoints" / "synth_teacher.safetensors"
FAMILY, PRESET = "d_fine", "large"
"""What is imported to measure time and memory."""
COCO = tuple(f"class {number}" for number in range(80))
MIB = 1 << 20

IMPORT = """
import pathlib, re, sys, time
from edgedetr.distill.weights.importing import import_model
import edgedetr.distill.detectors.d_fine
def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
before, start = peak(), time.perf_counter()
import_model(sys.argv[1], sys.argv[2])
print(time.perf_counter() - start, peak() - before)
"""

MEASURES = (
    "distill/edgedetr/distill/networks/query_fade.py",
    "distill/edgedetr/distill/networks/transformers_model.py",
    "distill/edgedetr/distill/weights/importing.py",
    "distill/edgedetr/distill/weights/source_config.py",
    "distill/edgedetr/distill/weights/source_preprocessor.py",
    "distill/edgedetr/distill/weights/source_tensors.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@result_option(__file__)
def main(images: Path, repeats: int, out: Path) -> None:
    """Measure and write the figures."""
    paths = list_images(images)
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "import": cost(Path(folder), repeats),
            "frames": len(paths),
            **answers(Path(folder), paths),
        }
    versions = versions_of(("edgedetr", "torch", "transformers", "onnxruntime"))
    write_result(out, {"versions": versions, **found}, MEASURES)
    click.echo(json.dumps(found, indent=2))


def cost(folder: Path, repeats: int) -> dict[str, Any]:
    """Import a large model in processes of its own; return the worst of them."""
    model = new_model(FAMILY, PRESET, ModelSpec((640, 640), COCO))
    source = written(model, folder / "large")
    size = (source / "model.safetensors").stat().st_size
    runs = []
    for _ in range(repeats):
        command = [sys.executable, "-c", IMPORT, str(source), str(folder / "large.safetensors")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        runs.append([float(number) for number in done.stdout.split()])
    seconds, peak = (max(column) for column in zip(*runs, strict=True))
    return {
        "model": f"{FAMILY}/{PRESET}",
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "weights_mib": round(size / MIB, 1),
        "seconds": round(seconds, 2),
        "memory_mib": round(peak / MIB, 1),
        "memory_in_sizes_of_the_weights": round(peak / size, 2),
        "repeats": repeats,
    }


def answers(folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """Import the demo's teacher; compare it with transformers, and its FP16 with its FP32."""
    source = written(load_model(TEACHER), folder / "teacher")
    half: dict[str, Any] = {}
    exported: dict[bool, Path] = {}
    for faded in (False, True):
        checkpoint, graph, rounded = (folder / f"{faded}{end}" for end in ENDS)
        import_model(source, checkpoint, query_fade=faded)
        export_onnx(checkpoint, graph)
        export_fp16(graph, rounded)
        exported[faded] = graph
        half["query_fade" if faded else "as_imported"] = compare(graph, rounded, paths)
    return {
        "against_transformers": against_transformers(source, exported[False], paths),
        "fp16": half,
    }


ENDS = (".safetensors", ".onnx", ".half.onnx")


def written(model: Model, folder: Path) -> Path:
    """Write a model as transformers does."""
    network: Any = model.network
    network.config.id2label = dict(enumerate(model.spec.class_names))
    network.save_pretrained(folder)
    height, width = model.spec.input_hw
    size = {"height": height, "width": width}
    transformers.RTDetrImageProcessor(size=size).save_pretrained(folder)
    return folder


def against_transformers(source: Path, graph: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """Compare an exported model with transformers, fed by its processor and by ours."""
    theirs = transformers.AutoModelForObjectDetection.from_pretrained(source).eval()
    processor = transformers.RTDetrImageProcessor.from_pretrained(source)
    ours, rule = OnnxRunner(graph), Rule()
    feed, fed = Preprocessor(ours.spec), np.empty((1, 3, *ours.spec.input_hw), np.float32)
    pairs: dict[str, list[Any]] = {"same_input": [], "own_input": []}
    apart = []
    for path in paths:
        image = read_image(path)
        feed(image, fed[0])
        given = processor(images=image, return_tensors="np")["pixel_values"]
        apart.append(float(np.abs(given - fed).mean()))
        logits, boxes = ours(fed)
        found = _found(logits.copy(), boxes.copy(), image, ours.spec)
        for name, pixels in (("same_input", fed), ("own_input", given)):
            with torch.no_grad():
                outputs = theirs(pixel_values=torch.from_numpy(pixels))
            wanted = _found(outputs.logits.numpy(), outputs.pred_boxes.numpy(), image, ours.spec)
            pairs[name].append(match(wanted, found, rule, ours.spec.max_detections))
    return {
        "mean_input_difference": round(float(np.mean(apart)), 5),
        **{name: _figures(each) for name, each in pairs.items()},
    }


def _found(
    logits: NDArray[np.float32],
    boxes: NDArray[np.float32],
    image: NDArray[np.uint8],
    spec: ModelSpec,
) -> Detections:
    height, width, _ = image.shape
    place = placement((height, width), spec)
    return postprocess(logits[0], boxes[0], place, spec, Rule().threshold - MARGIN)


def _figures(pairs: Sequence[Any]) -> dict[str, Any]:
    return {
        "matched": sum(len(p) for p in pairs),
        "unmatched": sum(p.unmatched for p in pairs),
        "box_error_px": spread(np.concatenate([p.box_errors_px for p in pairs])),
        "score_error": spread(np.concatenate([p.score_errors for p in pairs])),
    }


if __name__ == "__main__":
    main()
