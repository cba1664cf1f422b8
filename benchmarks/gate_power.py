"""How often the gates of FP16 and INT8 let good models pass and stop broken ones.

    python benchmarks/gate_power.py --runs runs/variations/* --data data/synth

Renders frames that no student was trained or calibrated on, compares each model with its FP32 model
on all of them once, and then judges as `edgedetr verify` does, 200 times, each time on other
frames: as many as it takes by default, drawn at random. A good model should pass in at least 99 %
of the draws, a broken one in at most 1 %. The public detector's images are few: half of them
calibrate it, the others are taken as they are and mirrored, shifted, lighter, darker and noisier.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from tqdm import tqdm

from edgedetr.bench.result_file import write_result
from edgedetr.calib.collect import collect
from edgedetr.calib.frames import choose_frames, kitti_images
from edgedetr.calib.stats import read_stats
from edgedetr.distill.synth.writer import write_synth
from edgedetr.distill.weights.checkpoint import load_model, save_model
from edgedetr.export.search.trial import Trial, unlabelled_scenes
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.transforms.halve import prepared
from edgedetr.export.transforms.quantize import quantize
from edgedetr.export.verify.activations import compare_activations
from edgedetr.export.verify.findings import WORST
from edgedetr.export.verify.limits import FP16_LIMITS, INT8_LIMITS
from edgedetr.export.verify.lost_share import ERROR_RATE, FIRST_LOOK, looks_at, lost_share
from edgedetr.export.verify.quantizers import FRAMES
from edgedetr.export.verify.runner import open_runner
from edgedetr.graph.blocks import block_names
from edgedetr.graph.model_file import load_onnx
from edgedetr.graph.wiring import label
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.spec import spec_from_toml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Self

    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.export.verify.limits import Limits
    from edgedetr.export.verify.matching import Pairs
    from edgedetr.runtime.spec import ModelSpec

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "gate_power.json"
TEACHER = ROOT / "distill" / "checkpoints" / "synth_teacher.safetensors"
FEMTO = "deimv2_femto_qr"
FEMTO_SPEC = ROOT / "benchmarks" / "specs" / f"{FEMTO}.toml"
POOL_SEED = 77
POOL_FRAMES = 600
DEFAULT_FRAMES = 400
"""What `edgedetr verify` takes at most by default."""
DRAWS = 200
GOOD, BROKEN = 0.99, 0.01
SPREAD = 6
"""Blocks whose scales are halved and convolutions in which two channels are swapped, one at a time,
evenly spread over the graph."""
HUGE = 1e6
INSIDE = 5
"""How many times frames are drawn to look inside the two graphs, as `edgedetr verify` does: at the
blocks on the worst of the least number of frames, at the quantizers on the first of these. The
draws of frames take these in turns."""


MEASURES = (
    "benchmarks/gate_power.py",
    "export/edgedetr/export/verify/block_errors.py",
    "export/edgedetr/export/verify/difference.py",
    "export/edgedetr/export/verify/limits.py",
    "export/edgedetr/export/verify/lost_share.py",
    "export/edgedetr/export/verify/matching.py",
    "export/edgedetr/export/verify/quantizers.py",
)
"""What makes these figures: once it changes, they are stale."""


def main() -> None:
    """Measure and write the figures; exit 1 where a model does not fare as it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders of students")
    parser.add_argument("--data", type=Path, required=True, help="what they were calibrated on")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        models = dict(measured(arguments, folder))
    figures = {
        "draws": DRAWS,
        "frames": {"pool": POOL_FRAMES, "drawn_at_most": DEFAULT_FRAMES},
        "error_rate": ERROR_RATE,
        "wanted": {"good": GOOD, "broken": BROKEN},
        "models": models,
    }
    write_result(arguments.json, figures, MEASURES)
    wrong = [name for name, model in models.items() if not model["as_wanted"]]
    print("\n".join(f"not as wanted: {name}" for name in wrong) or "all as wanted")
    sys.exit(bool(wrong))


def measured(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Compare every model on the pool and judge it; give each with its name."""
    write_synth(folder / "pool", POOL_FRAMES, POOL_SEED)
    pool = folder / "pool" / "training" / "image_2"
    export_onnx(TEACHER, folder / "teacher.onnx")
    yield from of_pair("teacher", folder / "teacher.onnx", collected(folder, arguments.data), pool)
    stats = {run.name: read_stats(run / "student.calib.json") for run in arguments.runs}
    for run in arguments.runs:
        yield from of_pair(run.name, run / "student.onnx", stats[run.name], pool)
    first = arguments.runs[0]
    other = of_other_weights(first / "student.safetensors", folder, arguments.data)
    yield from of_broken(first / "student.onnx", stats[first.name], other, pool)
    if (arguments.shared / FEMTO).is_dir():
        yield from of_femto(arguments.shared / FEMTO, folder)


def collected(folder: Path, data: Path) -> CalibrationStats:
    """Calibrate the teacher as `edgedetr calib collect` does."""
    return collect(folder / "teacher.onnx", choose_frames(kitti_images(data), 128))


def of_other_weights(student: Path, folder: Path, data: Path) -> CalibrationStats:
    """Calibrate a student whose weights were shuffled within each layer.

    Another student of the same teacher will not do: both inherit its weights, their ranges differ
    little, and with another's calibration a student loses no more than with its own.
    """
    model = load_model(student)
    random = torch.Generator().manual_seed(POOL_SEED)
    for weights in model.network.parameters():
        order = torch.randperm(weights.numel(), generator=random)
        weights.data = weights.data.flatten()[order].reshape(weights.shape)
    save_model(folder / "other.safetensors", model, command="benchmarks/gate_power.py")
    export_onnx(folder / "other.safetensors", folder / "other.onnx")
    return collect(folder / "other.onnx", choose_frames(kitti_images(data), 128))


def of_pair(
    name: str, path: Path, stats: CalibrationStats, images: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Judge a model in INT8 and in FP16 as the export writes them."""
    model = load_onnx(path)
    with Pool(path, stats.spec, images) as pool:
        for precision, made, limits in (
            ("INT8", quantize(model, stats), INT8_LIMITS),
            ("FP16", prepared(model, stats.spec).typed({})[0], FP16_LIMITS),
        ):
            title = f"{name}, {precision}"
            yield title, judged(pool, made, limits, title, good=True)


def of_femto(folder: Path, work: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Judge a detector that others trained, calibrated on one half of its images."""
    images = list_images(folder / "images")
    path, spec = next(folder.glob("*.onnx")), spec_from_toml(FEMTO_SPEC)
    (work / "femto").mkdir()
    for number, image in enumerate(images[1::2]):
        for kind, varied in enumerate(variations(read_image(image), number)):
            cv2.imwrite(str(work / "femto" / f"{number}_{kind}.png"), varied[..., ::-1])
    stats = collect(path, images[::2], spec)
    yield from of_pair("femto", path, stats, work / "femto")


def variations(image: NDArray[np.uint8], seed: int) -> list[NDArray[np.uint8]]:
    """Return an image and its mirror, shifted, lighter and darker, all but the first with noise."""
    random = np.random.default_rng(seed)
    made = [image]
    for seen in (image, image[:, ::-1]):
        for shift in ((0, 0), (5, 7), (-9, 4), (3, -11), (-6, -8), (8, -3), (11, 2)):
            for gain in (0.85, 1.0, 1.15):
                exact = np.roll(seen, shift, (0, 1)) * gain + random.normal(0, 3, image.shape)
                made.append(np.clip(np.rint(exact), 0, 255).astype(np.uint8))
    return made


def of_broken(
    path: Path, stats: CalibrationStats, other: CalibrationStats, images: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Judge what must not pass: INT8 and FP16 of one student, broken in ways that happen."""
    model = load_onnx(path)
    int8, half = quantize(model, stats), prepared(model, stats.spec).typed({})[0]
    broken: dict[str, tuple[onnx.ModelProto, Limits]] = {
        f"INT8, scales of {block} halved": (halved_scales(int8, block), INT8_LIMITS)
        for block in quantized_blocks(int8)
    }
    for name in spread_convolutions(model):
        swapped = quantize(with_swapped_channels(model, name), stats)
        broken[f"INT8, two channels of {name} swapped"] = swapped, INT8_LIMITS
    broken["INT8, calibration of other weights"] = quantize(model, other), INT8_LIMITS
    for precision, made, limits in (("INT8", int8, INT8_LIMITS), ("FP16", half, FP16_LIMITS)):
        moved = with_added(made, stats.spec.logits_name, [1.0, 0.0, 0.0])
        broken[f"{precision}, one class's bias moved by 1"] = moved, limits
        cell = [8 / stats.spec.input_hw[1], 0.0, 0.0, 0.0]
        off = with_added(made, stats.spec.boxes_name, cell)
        broken[f"{precision}, boxes off by a cell of 8 pixels"] = off, limits
    broken["FP16, overflow in one layer"] = with_overflow(half), FP16_LIMITS
    with Pool(path, stats.spec, images) as pool:
        for name, (made, limits) in broken.items():
            yield name, judged(pool, made, limits, name, good=False)


class Pool:
    """The frames that are drawn from, and the model that others are compared with on them."""

    def __init__(self, path: Path, spec: ModelSpec, images: Path) -> None:
        scenes = unlabelled_scenes(images)
        self.trial = Trial(load_onnx(path), spec, scenes)
        self._path, self._spec, self._images = path, spec, scenes.images

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.trial.close()

    def faults(self, model: onnx.ModelProto, pairs: Sequence[Pairs]) -> list[str]:
        """Look inside the graphs, `INSIDE` times on other frames; list what is wrong each time.

        Args:
            model: The candidate.
            pairs: The detections of both models on every frame.
        """
        random = np.random.default_rng(0)
        with TemporaryDirectory() as folder:
            candidate = Path(folder) / "candidate.onnx"
            onnx.save(model, candidate)
            runners = open_runner(self._path, self._spec), open_runner(candidate, self._spec)
            found = []
            for _ in range(INSIDE):
                drawn = random.choice(len(self._images), FIRST_LOOK, replace=False)
                worst = sorted(drawn, key=lambda i: badness(pairs[i]), reverse=True)[:WORST]
                images = ([read_image(self._images[i]) for i in s] for s in (worst, drawn[:FRAMES]))
                found.append(compare_activations(runners, ("a", "b"), *images))
        return [activations.reason if activations else "" for activations in found]


def badness(pairs: Pairs) -> tuple[int, float]:
    """Order frames as `edgedetr.export.verify.findings.FrameFigures.badness` does."""
    if not len(pairs):
        return pairs.unmatched, 0.0
    return pairs.unmatched, float(1 - pairs.ious.min() + pairs.score_errors.max())


def judged(
    pool: Pool, model: onnx.ModelProto, limits: Limits, name: str, *, good: bool
) -> dict[str, Any]:
    """Compare on all frames, then judge on draws of them."""
    try:
        effect = pool.trial.effect(model, name)
        faults = pool.faults(model, effect.pairs)
    except ArtifactError as error:  # outputs that are not finite fail at once
        why = str(error).partition(": ")[2]  # without the file's name
        return {"good": good, "refused": why, "passed": 0.0, "as_wanted": not good}
    lost = np.array([pairs.lost(limits) for pairs in effect.pairs])
    compared = np.array([pairs.compared for pairs in effect.pairs])
    random = np.random.default_rng(0)
    verdicts: Counter[str] = Counter()
    taken = []
    for draw in range(DRAWS):
        drawn = random.permutation(len(lost))[:DEFAULT_FRAMES]
        verdict, frames = verdict_on(lost[drawn], compared[drawn], limits)
        verdict = "failed" if faults[draw % INSIDE] else verdict
        verdicts[verdict] += 1
        taken.append(frames)
    passed = verdicts["passed"] / DRAWS
    whole = effect.share(limits)
    tqdm.write(f"{name}: passed in {passed:.1%}, lost {whole.share:.2%}, {max(faults)}")
    return {
        "good": good,
        "passed": passed,
        "failed": verdicts["failed"] / DRAWS,
        "undecided": verdicts["undecided"] / DRAWS,
        "median_frames": int(np.median(taken)),
        "lost_share": whole.share,
        "lost_share_low": whole.low,
        "lost_share_high": whole.high,
        "allowed": limits.lost_share,
        "faults_inside": sum(map(bool, faults)) / INSIDE,
        "p99_box_error_px": effect.figures.p99_box_error_px,
        "mean_score_error": effect.figures.mean_score_error,
        "as_wanted": passed >= GOOD if good else passed <= BROKEN,
    }


def verdict_on(
    lost: NDArray[np.int64], compared: NDArray[np.int64], limits: Limits
) -> tuple[str, int]:
    """Judge as `edgedetr verify` does; return the verdict and the frames that it took."""
    for look, error_rate in looks_at(len(lost)).items():
        share = lost_share(lost[:look].tolist(), compared[:look].tolist(), error_rate)
        if (verdict := share.verdict(limits.lost_share)) != "undecided":
            return verdict, look
    return "undecided", len(lost)


def quantized_blocks(model: onnx.ModelProto) -> list[str]:
    """Name some of the blocks that quantize an activation, evenly spread over the graph."""
    blocks = block_names(model)
    found = (blocks[label(n)] for n in model.graph.node if n.op_type == "QuantizeLinear")
    return spread(list(dict.fromkeys(found)))


def halved_scales(model: onnx.ModelProto, block: str) -> onnx.ModelProto:
    """Halve the scale, and with it the range, of each activation that a block quantizes."""
    changed, blocks = copy_of(model), block_names(model)
    constants = {tensor.name: tensor for tensor in changed.graph.initializer}
    scales = {
        node.input[1]
        for node in changed.graph.node
        if node.op_type == "QuantizeLinear" and blocks[label(node)] == block
    }
    for name in scales:
        half = numpy_helper.to_array(constants[name]) / np.float32(2)
        constants[name].CopyFrom(numpy_helper.from_array(half.astype(np.float32), name))
    return changed


def spread_convolutions(model: onnx.ModelProto) -> list[str]:
    """Name some convolutions of the graph, evenly spread."""
    return spread([n.name for n in model.graph.node if n.op_type == "Conv"])


def spread(names: list[str]) -> list[str]:
    """Take `SPREAD` of some names, evenly spread."""
    return [names[i] for i in np.linspace(0, len(names) - 1, SPREAD).round().astype(int)]


def with_swapped_channels(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Swap the two output channels of a convolution that have the largest weights."""
    changed = copy_of(model)
    node = next(n for n in changed.graph.node if n.name == name)
    weights = next(t for t in changed.graph.initializer if t.name == node.input[1])
    values = numpy_helper.to_array(weights).copy()
    first, second = np.argsort(np.abs(values).sum((1, 2, 3)))[-2:]
    values[[first, second]] = values[[second, first]]
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    return changed


def with_added(model: onnx.ModelProto, output: str, values: Sequence[float]) -> onnx.ModelProto:
    """Add a constant to an output."""
    changed = copy_of(model)
    for node in changed.graph.node:
        for index, name in enumerate(node.output):
            if name == output:
                node.output[index] = f"{output}_before"
        for index, name in enumerate(node.input):
            if name == output:
                node.input[index] = f"{output}_before"
    constant = numpy_helper.from_array(np.array(values, np.float32), f"{output}_moved_by")
    changed.graph.initializer.append(constant)
    changed.graph.node.append(
        helper.make_node("Add", [f"{output}_before", constant.name], [output], f"{output}_moved")
    )
    return changed


def with_overflow(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make one FP16 convolution in the middle exceed the range of FP16."""
    changed = copy_of(model)
    halves = {
        t.name: t for t in changed.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16
    }
    layers = [n for n in changed.graph.node if n.op_type == "Conv" and n.input[1] in halves]
    weights = halves[layers[len(layers) // 2].input[1]]
    large = np.clip(numpy_helper.to_array(weights).astype(np.float32) * HUGE, -65504, 65504)
    weights.CopyFrom(numpy_helper.from_array(large.astype(np.float16), weights.name))
    return changed


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model, so that it can be changed."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


if __name__ == "__main__":
    main()
