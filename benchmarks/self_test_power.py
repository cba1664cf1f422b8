"""What a package's self-test detects, and that it gives no false alarm.

    python benchmarks/self_test_power.py --runs runs/variations/* --data data/synth

Each model of each run is packed as `edgedetr package` does, once with the generated golden frame
and once with a rendered one. Then the self-test runs on the same model with other kernels, which it
must take, and on the model broken in ways that a hash would find, if it were checked, or that no
hash can find. Detections alone, as packages held them before there were logits, stand beside.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper
from tqdm import tqdm

from edgedetr.bench.result_file import write_result
from edgedetr.export.package.candidate import read_candidate
from edgedetr.export.package.golden import answer_of
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.backend_lookup import backend
from edgedetr.runtime.backends.onnxruntime import open_session
from edgedetr.runtime.errors import ArtifactError, GateError
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.self_test import (
    Golden,
    GoldenAnswer,
    check_answer,
    check_inputs,
    golden_frame,
    golden_inputs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgedetr.runtime.session import Session
    from edgedetr.runtime.spec import ModelSpec

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "self_test_power.json"
MODELS = {"fp32": "student.onnx", "fp16": "student.fp16.onnx", "int8": "student.int8.onnx"}
NOISE = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Noise on all weights, in per cent of the standard deviation of each tensor."""
SEEDS = 4
FLIPS = 16
"""Bytes that are flipped, one at a time, anywhere in the weights."""
LAYERS = ("Conv", "MatMul", "Gemm")
INSTRUCTION_SETS = ("", "AVX2")
"""What OpenVINO may use at most; empty for all that the CPU has."""
TIMES = 15

MEASURES = (
    "benchmarks/self_test_power.py",
    "export/edgedetr/export/package/golden.py",
    "runtime/edgedetr/runtime/self_test.py",
)
"""What makes these figures: once it changes, they are stale."""


@dataclass(frozen=True)
class Packed:
    """A model as it was packed: its precision, and its golden answer for each frame by name."""

    path: Path
    precision: str
    spec: ModelSpec
    frames: dict[str, NDArray[np.uint8]]
    answers: dict[str, GoldenAnswer]


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders of students")
    parser.add_argument("--data", type=Path, required=True, help="rendered scenes")
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rendered = read_image(list_images(arguments.data / "training" / "image_2")[0])
    packed = [p for run in arguments.runs for p in packed_models(run, rendered)]
    with TemporaryDirectory() as folder:
        broken = detected(packed, Path(folder))
    figures = {
        "models": len(packed),
        "false_alarms": false_alarms(packed),
        "detected": broken,
        "preprocessing": wrong_preprocessing(packed[0].spec),
        "time_ms": times_ms(packed),
    }
    write_result(arguments.json, figures, MEASURES)
    print(table(broken))


def packed_models(run: Path, rendered: NDArray[np.uint8]) -> Iterator[Packed]:
    """Note the golden answers of the models of a run."""
    for precision, name in MODELS.items():
        model = read_candidate(run / name, None)
        frames = {"generated": golden_frame(model.spec.input_hw), "rendered": rendered}
        answers = {kind: answer_of(model, frame) for kind, frame in frames.items()}
        yield Packed(run / name, precision, model.spec, frames, answers)


def alarms(packed: Packed, session: Session) -> Iterator[tuple[str, bool]]:
    """Run the self-test of each frame, with logits and with detections alone; yield its name."""
    for kind, frame in packed.frames.items():
        answer = packed.answers[kind]
        yield kind, is_refused(answer, session, frame)
        alone = without_logits(answer)
        yield f"{kind}, detections alone", is_refused(alone, session, frame)


def is_refused(answer: GoldenAnswer, session: Session, frame: NDArray[np.uint8]) -> bool:
    """Tell whether a model fails the self-test."""
    try:
        check_answer(answer, session, frame)
    except (GateError, ArtifactError):  # the latter where outputs are not finite
        return True
    return False


def without_logits(answer: GoldenAnswer) -> GoldenAnswer:
    """Return an answer as packages held it before there were logits."""
    return replace(answer, logits=(), logit_error=0.0)


def false_alarms(packed: list[Packed]) -> dict[str, dict[str, int]]:
    """Run unchanged models with other kernels; count the alarms, of as many tests."""
    found = {"onnxruntime": counted_alarms(packed, "onnxruntime")}
    for name in INSTRUCTION_SETS:
        os.environ["ONEDNN_MAX_CPU_ISA"] = name or "DEFAULT"
        with get_context("spawn").Pool(1) as pool:  # a process reads the variable once
            title = f"openvino, at most {name}" if name else "openvino"
            found[title] = pool.apply(counted_alarms, (packed, "openvino"))
    del os.environ["ONEDNN_MAX_CPU_ISA"]
    return found


def counted_alarms(packed: list[Packed], name: str) -> dict[str, int]:
    """Count the tests of unchanged models in a backend, and those that gave an alarm."""
    said: list[bool] = []
    for model in packed:
        session = backend(name).open_session(model.path)
        said += [alarm for _, alarm in alarms(model, session)]
        session.close()
    return {"tests": len(said), "alarms": sum(said)}


def detected(packed: list[Packed], folder: Path) -> dict[str, dict[str, float]]:
    """Break each model in every way; return the share that each kind of test detects.

    A model that ONNX Runtime refuses counts as detected.
    """
    said: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for packing in tqdm(packed, unit="model", disable=None):
        for way, model in broken(packing):
            path = folder / "broken.onnx"
            onnx.save(model, path)
            for kind, alarm in alarms_of_file(packing, path):
                said[f"{packing.precision}: {way}"][kind].append(alarm)
    return {
        way: {kind: float(np.mean(found)) for kind, found in kinds.items()}
        for way, kinds in said.items()
    }


def alarms_of_file(packing: Packed, path: Path) -> Iterator[tuple[str, bool]]:
    """Run the self-tests of a model on the file that took its place."""
    try:
        session = open_session(path)
    except ArtifactError:
        for kind in packing.frames:
            yield kind, True
            yield f"{kind}, detections alone", True
        return
    yield from alarms(packing, session)
    session.close()


def broken(packing: Packed) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Break a model in every way, by name."""
    model = load_onnx(packing.path)
    for share in NOISE:
        for seed in range(SEEDS):
            yield f"noise of {share:g} % on the weights", with_noise(model, share / 100, seed)
    for seed in range(FLIPS):
        yield "one byte of the weights", with_flipped_byte(model, seed)
    order = np.roll(np.arange(len(packing.spec.class_names)), 1)
    yield "class rows swapped", with_order_of_classes(model, packing.spec, order)
    yield "channels swapped (BGR)", with_input(model, packing.spec, [2, 1, 0], 0.0)
    for levels in (2, 5, 20):
        shifted = with_input(model, packing.spec, [0, 1, 2], levels / 255)
        yield f"mean shifted by {levels} grey levels", shifted
    for precision, name in MODELS.items():
        if precision != packing.precision:
            yield f"{precision} in its place", load_onnx(packing.path.with_name(name))


def weights_of(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return the weights of convolutions and matrix products, also behind casts and Q/DQ pairs."""
    used = {n.input[1] for n in model.graph.node if n.op_type in LAYERS}
    for node in reversed(model.graph.node):
        if node.op_type in {"DequantizeLinear", "Cast", "Transpose"} and node.output[0] in used:
            used.add(node.input[0])
    return [tensor for tensor in model.graph.initializer if tensor.name in used]


def with_noise(model: onnx.ModelProto, share: float, seed: int) -> onnx.ModelProto:
    """Add normal noise to all weights; INT8 weights are rounded again."""
    changed, random = copy_of(model), np.random.default_rng(seed)
    for tensor in weights_of(changed):
        values = numpy_helper.to_array(tensor)
        noisy = values + random.normal(0, values.std() * share, values.shape)
        if values.dtype == np.int8:
            noisy = np.clip(np.rint(noisy), -127, 127)
        tensor.CopyFrom(numpy_helper.from_array(noisy.astype(values.dtype), tensor.name))
    return changed


def with_flipped_byte(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Change all bits of one byte of the weights."""
    changed, random = copy_of(model), np.random.default_rng(seed)
    weights = weights_of(changed)
    sizes = np.array([numpy_helper.to_array(tensor).nbytes for tensor in weights])
    tensor = weights[random.choice(len(weights), p=sizes / sizes.sum())]
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1).view(np.uint8)[random.integers(values.nbytes)] ^= 0xFF
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return changed


def with_order_of_classes(
    model: onnx.ModelProto, spec: ModelSpec, order: NDArray[np.int64]
) -> onnx.ModelProto:
    """Answer the logits of the classes in another order."""
    changed = copy_of(model)
    before = f"{spec.logits_name}_before"
    for node in changed.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = before if name == spec.logits_name else name
    changed.graph.initializer.append(numpy_helper.from_array(order, "order_of_classes"))
    inputs = [before, "order_of_classes"]
    changed.graph.node.append(helper.make_node("Gather", inputs, [spec.logits_name], axis=-1))
    return changed


def with_input(
    model: onnx.ModelProto, spec: ModelSpec, order: list[int], shift: float
) -> onnx.ModelProto:
    """Give the network other channels, or brighter ones, than preprocessing makes."""
    changed = copy_of(model)
    for node in changed.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = "other_input" if name == spec.input_name else name
    constants = {"order_of_channels": np.array(order), "shift": np.float32(shift)}
    changed.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    nodes = [
        helper.make_node("Gather", [spec.input_name, "order_of_channels"], ["reordered"], axis=1),
        helper.make_node("Add", ["reordered", "shift"], ["other_input"]),
    ]
    rest = list(changed.graph.node)
    del changed.graph.node[:]
    changed.graph.node.extend([*nodes, *rest])
    return changed


def wrong_preprocessing(spec: ModelSpec) -> dict[str, bool]:
    """Tell what the check of the preprocessing itself detects; it needs no model."""
    golden = Golden(
        golden_inputs(spec), (1, 1), (GoldenAnswer("", ((0, 0, 1, 1),), (1,), (0,), 0, 0),)
    )
    found = {}
    for levels in (1, 2, 5):
        red, green, blue = (mean + levels / 255 for mean in spec.mean)
        moved = replace(spec, mean=(red, green, blue))
        try:
            check_inputs(golden, moved)
        except GateError:
            found[f"mean off by {levels} grey levels"] = True
        else:
            found[f"mean off by {levels} grey levels"] = False
    return found


def times_ms(packed: list[Packed]) -> dict[str, dict[str, float]]:
    """Time the self-test of the first run's models, in milliseconds."""
    found = {}
    for model in packed[: len(MODELS)]:
        session = open_session(model.path)
        frame, answer = model.frames["generated"], model.answers["generated"]
        tests = {"now": answer, "detections alone": without_logits(answer)}
        spent: dict[str, list[float]] = {test: [] for test in tests}
        for _ in range(TIMES):
            for test, wanted in tests.items():
                start_ns = perf_counter_ns()
                check_answer(wanted, session, frame)
                spent[test].append((perf_counter_ns() - start_ns) / 1e6)
        session.close()
        found[model.precision] = {test: median(taken) for test, taken in spent.items()}
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Return the shares as a table."""
    kinds = list(next(iter(found.values())))
    lines = [f"{'':44}" + "".join(f"{kind:>30}" for kind in kinds)]
    for way, shares in found.items():
        lines.append(f"{way:44}" + "".join(f"{shares[kind]:>30.0%}" for kind in kinds))
    return "\n".join(lines)


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model, so that it can be changed."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


if __name__ == "__main__":
    main()
