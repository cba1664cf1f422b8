"""Measure FP8, and equalization before calibration, beside INT8 as it is.

    python benchmarks/int8_alternatives.py --foreign ../shared/data/deimv2_femto_qr \
        --student runs/demo/student.safetensors --data data/synth

Writes ``benchmarks/results/int8_alternatives.json``. FP8 stands beside INT8 for TensorRT.
Equalization (Nagel et al., ICCV 2019, arXiv:1906.04721, equation 11) stands beside INT8 for
OpenVINO, where depthwise convolutions are INT8, and for TensorRT: for TensorRT they stay float, and
a scale for each output channel cancels what equalization does to the layer ahead of them. Each
model is calibrated on three choices of frames and measured on others: a foreign model, the demo's
student and RT-DETR-R18 of random weights, of which the scores of all places are compared. Graphs
run as they are written, the rest in FP32.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.calib.collect import collect
from edgedetr.calib.frames import choose_frames, kitti_images
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.export.search.trial import Trial, labelled_scenes
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.transforms.quantize import quantize, quantized_share
from edgedetr.graph.exact import exact_session
from edgedetr.graph.model_file import load_onnx
from edgedetr.graph.wiring import Wiring
from edgedetr.runtime.boxes import iou
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import versions_of
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec, spec_from_toml
from foreign_model import SPEC, variations
from int8_targets import answers, summary
from parity import settled_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edgedetr.calib.stats import CalibrationStats

PATH = click.Path(path_type=Path)
SEEDS = (0, 1, 2)
CALIBRATION_FRAMES, TRIAL_FRAMES = 32, 60
R18_SPEC = ModelSpec((128, 256), ("Car", "Pedestrian", "Cyclist"))
PACKAGES = ("edgedetr", "onnx", "onnxruntime")

MEASURES = (
    "calib/edgedetr/calib/bias_correction.py",
    "calib/edgedetr/calib/fp8_placement.py",
    "calib/edgedetr/calib/placement.py",
    "calib/edgedetr/calib/rounding.py",
    "calib/edgedetr/calib/scales.py",
    "export/edgedetr/export/transforms/quantize.py",
    "export/edgedetr/graph/fp8.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--foreign", type=PATH, required=True, help="Folder of the foreign model.")
@click.option("--student", type=PATH, required=True, help="The demo's student.safetensors.")
@click.option("--data", type=PATH, required=True, help="The demo's frames.")
@result_option(__file__)
def main(foreign: Path, student: Path, data: Path, out: Path) -> None:
    """Measure and write the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {
            "foreign": [of_foreign(foreign, folder, seed) for seed in SEEDS],
            "student": of_student(student, data, folder),
            "rt_detr r18, random": of_r18(kitti_images(data), folder),
            "versions": versions_of(PACKAGES),
        }
    write_result(out, figures, MEASURES)
    click.echo(json.dumps(figures, indent=1))


def graphs(
    path: Path, images: list[Path], spec: ModelSpec | None, folder: Path
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Make the graphs that are compared, all calibrated on the same images."""
    model = onnx.load(path)
    equal, _ = equalized(model)
    onnx.save(equal, folder / "equal.onnx")
    stats, other = collect(path, images, spec), collect(folder / "equal.onnx", images, spec)
    yield "int8", quantize(model, stats)
    yield "int8, equalized", quantize(equal, other)
    yield "fp8", quantize(model, stats, precision="fp8")
    yield "fp8, uncorrected", quantize(model, replace(stats, shifts={}), precision="fp8")
    yield "fp8, amax of INT8", quantize(model, clipped(stats), precision="fp8")
    yield "uint8", quantize(model, stats, target="openvino")
    yield "uint8, equalized", quantize(equal, other, target="openvino")


def clipped(stats: CalibrationStats) -> CalibrationStats:
    """Return stats of which FP8 takes the range that is best for INT8."""
    return replace(
        stats, ranges=tuple(replace(r, max=r.amax, low=None, high=None) for r in stats.ranges)
    )


def of_foreign(folder: Path, made: Path, seed: int) -> dict[str, Any]:
    """Measure the best box of the foreign model on the half of the images that is not seen."""
    path, spec = folder / "deimv2_femto_416.onnx", spec_from_toml(SPEC)
    images = list_images(folder / "images")
    order = np.random.default_rng(seed).permutation(len(images))
    seen, unseen = np.array_split(order, 2)
    varied = [v for i in unseen for v in variations(images[i])]
    wanted = answers(onnx.load(path), spec, varied)
    found = {}
    for name, graph in graphs(path, [images[i] for i in seen], spec, made):
        errors = []
        for best, other in zip(wanted, answers(graph, spec, varied), strict=True):
            overlaps = iou(best.boxes[:1], other.boxes)[0]
            near = int(overlaps.argmax())
            errors.append((True, float(best.scores[0] - other.scores[near]), float(overlaps[near])))
        found[name] = {"share": share(graph), **summary(errors)}
        click.echo(f"foreign, {seed}, {name}: {found[name]}")
    return found


def of_student(checkpoint: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Measure the demo's student on its validation split."""
    path = folder / "student.onnx"
    export_onnx(checkpoint, path)
    training = kitti_images(data)
    spec = collect(path, training[:1], corrects_bias=False).spec
    scenes = labelled_scenes(data, spec.class_names).spread(TRIAL_FRAMES)
    runs = []
    with Trial(load_onnx(path), spec, scenes) as trial:
        for seed in SEEDS:
            order = np.random.default_rng(seed).permutation(len(training))
            frames = [training[i] for i in order[:CALIBRATION_FRAMES]]
            found = {}
            for name, graph in graphs(path, frames, None, folder):
                effect = trial.effect(graph, name)
                found[name] = {
                    "share": share(graph),
                    "ap_drop": effect.ap_drop,
                    "p99_box_px": effect.figures.p99_box_error_px,
                    "mean_score_error": effect.figures.mean_score_error,
                }
                click.echo(f"student, {seed}, {name}: {found[name]}")
            runs.append(found)
        return {"fp32_ap": trial.ap, "frames": len(trial), "runs": runs}


def of_r18(frames: list[Path], folder: Path) -> list[dict[str, Any]]:
    """Measure what rounding does to the scores of all places, before queries are chosen."""
    path = folder / "r18.onnx"
    model = settled_model("rt_detr", "r18", choose_frames(frames, 4), R18_SPEC)
    save_model(folder / "r18.safetensors", model, command="-")
    export_onnx(folder / "r18.safetensors", path)
    runs = []
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(frames))
        seen, others = ([frames[i] for i in part] for part in (order[:16], order[16:32]))
        images = list(network_inputs(others))
        wanted = scores(onnx.load(path), images)
        found = {}
        for name, graph in graphs(path, seen, None, folder):
            errors = np.square(scores(graph, images) - wanted).sum()
            relative = float(np.sqrt(errors / np.square(wanted - wanted.mean()).sum()))
            found[name] = {"share": share(graph), "relative_error": round(relative, 5)}
            click.echo(f"r18, {seed}, {name}: {found[name]}")
        runs.append(found)
    return runs


def network_inputs(paths: Iterable[Path]) -> Iterator[np.ndarray]:
    """Preprocess frames."""
    preprocess = Preprocessor(R18_SPEC)
    for path in paths:
        fed = np.empty((1, 3, *R18_SPEC.input_hw), np.float32)
        preprocess(read_image(path), fed[0])
        yield fed


def scores(model: onnx.ModelProto, images: list[np.ndarray]) -> np.ndarray:
    """Return what the first TopK of a graph chooses from."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    name = next(n.input[0] for n in tapped.graph.node if n.op_type == "TopK")
    tapped.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = exact_session(tapped, "the model")
    return np.stack([session.run([name], {R18_SPEC.input_name: x})[0] for x in images])


def share(graph: onnx.ModelProto) -> float:
    """Return the share of the multiply-accumulates in eight bits."""
    found = quantized_share(graph)
    return round(found.int8_macs / found.macs, 4)


def equalized(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Return a model whose pairs of convolutions have channels of equal ranges, and how many.

    A pair is a convolution whose result one other reads alone, at most through a ReLU, which takes
    factors through (SiLU and hardswish do not). Channel i of the first and of its bias is divided
    by ``sqrt(r1 / r2)``, with r1 and r2 the largest weight that makes and that reads it; the second
    is multiplied by it. The model computes the same up to rounding.
    """
    equal = onnx.ModelProto()
    equal.CopyFrom(model)
    wiring = Wiring(equal.graph)
    stored = {t.name: t for t in equal.graph.initializer if len(wiring.readers[t.name]) == 1}
    count = 0
    for node in (
        n for n in wiring.nodes if n.op_type == "Conv" and {*n.input[1:]} <= stored.keys()
    ):
        reader = _reader(node, wiring)
        if reader is None or reader.input[1] not in stored:
            continue
        first, second = (numpy_helper.to_array(stored[n.input[1]]) for n in (node, reader))
        depthwise = second.shape[1] == 1 and second.shape[0] == first.shape[0]
        if not depthwise and second.shape[1] != first.shape[0]:
            continue
        axis = 0 if depthwise else 1
        made = np.abs(first).max((1, 2, 3))
        read = np.abs(np.moveaxis(second, axis, 0)).max((1, 2, 3))
        alive = (made > 0) & (read > 0)
        factors = np.sqrt(made, where=alive, out=np.ones_like(made))
        factors[alive] /= np.sqrt(read[alive])
        for name in node.input[1:]:
            values = numpy_helper.to_array(stored[name])
            _store(stored[name], values / factors.reshape(-1, *[1] * (values.ndim - 1)))
        _store(
            stored[reader.input[1]],
            second * factors.reshape((-1, 1, 1, 1) if depthwise else (1, -1, 1, 1)),
        )
        count += 1
    return equal, count


def _reader(node: onnx.NodeProto, wiring: Wiring) -> onnx.NodeProto | None:
    """Return the convolution that alone reads a node's result, at most through a ReLU."""
    name = node.output[0]
    for _ in range(2):
        readers: list[onnx.NodeProto] = [wiring.nodes[i] for i in wiring.readers.get(name, ())]
        kinds = [n.op_type for n in readers]
        if kinds == ["Conv"] and readers[0].input[0] == name:
            return readers[0]
        if kinds != ["Relu"]:
            return None
        name = readers[0].output[0]
    return None


def _store(tensor: onnx.TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))


if __name__ == "__main__":
    main()
