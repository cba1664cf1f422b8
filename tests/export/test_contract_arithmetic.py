"""What CPU libraries compute of typed files, held to the arithmetic that the files stand for.

An INT8 value that is rounded to the other side moves all that follows, so each library is looked
at quantizer by quantizer: it gets the INT8 values of the reference, and the reference's choice of
queries, and is held to what the reference makes of them. The reference computes in FP32 with the
constants of the file, node by node, and rounds where the file has a Q.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.transforms.textures import textured_frames
from edgedetr.export.verify.runners.onnx import OnnxRunner, selection_graph
from edgedetr.graph.exact import exact_session, run_session
from edgedetr.graph.model_file import load_onnx
from edgedetr.graph.wiring import Wiring
from edgedetr.runtime.backend_lookup import backend
from edgedetr.runtime.plugins import names
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Values = Mapping[str, NDArray[Any]]

pytestmark = pytest.mark.slow

FORCED = "::forced"
TYPED = ("fp16", "int8_fp16", "int8_fp32")
UNIT = 2.0**-11
"""The largest relative error of rounding to FP16."""
FLOAT = 1e-4
"""More than FP32 gives up on the way to a score or a side of a box."""
OUTPUT_LIMITS = {"onnxruntime": FLOAT + 4 * UNIT, "openvino": FLOAT}
"""ONNX Runtime rounds some tensors to FP16, OpenVINO none."""
FROM_A_TIE = {
    ("openvino", "fp32"): 0.001,
    ("openvino", "fp16"): 0.001,
    ("onnxruntime", "fp32"): 0.01,  # it rounds biases to whole products of steps
    ("onnxruntime", "fp16"): 3 * UNIT * 127,
}
"""How far a value may lie from the middle of two steps, in steps, where the other one is taken."""


@dataclass(frozen=True, eq=False)
class Case:
    """A typed file of a family, and what the reference makes of a frame.

    Attributes:
        graph: The file, whose quantizers and selections are outputs, and whose readers of them read
            inputs instead.
        feeds: The frame and these inputs.
        quantizers: The quantizers' outputs.
        values: What the reference gives: of each quantizer, before it, and the file's outputs.
        scales: The step of each quantizer.
        outputs: Logits and boxes.
    """

    graph: onnx.ModelProto
    feeds: Values
    quantizers: Mapping[str, str]
    values: Values
    scales: Mapping[str, float]
    outputs: tuple[str, ...]


@pytest.fixture(scope="module", params=names("edgedetr.distill.detectors"))
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def case(family: str, family_files: Any) -> Any:
    """Makes the `Case` of a typed file, once."""
    files = family_files(family)
    frame = preprocessed(files.model.spec)

    @cache
    def make(kind: str) -> Case:
        model = load_onnx(getattr(files, kind))
        wide = unrounded(model)
        quantizers = activation_quantizers(wide)
        selecting = selection_graph(wide, forced=False)
        outputs = files.model.spec.output_names
        asked = [*quantizers, *quantizers.values(), *outputs, *selecting.indices]
        reference = with_outputs(selecting.model, asked)
        session = exact_session(reference, "the reference", fused="none")
        image = {files.model.spec.input_name: frame}
        values = dict(zip(asked, run_session(session, asked, image, "it"), strict=True))
        forced = {f"{n}{FORCED}": values[n] for n in (*quantizers, *selecting.indices)}
        constants = Wiring(model.graph).constants
        scales = {
            n.output[0]: float(numpy_helper.to_array(constants[n.input[1]]))
            for n in model.graph.node
            if n.output[0] in quantizers
        }
        graph = forced_graph(model, forced, [*quantizers, *outputs])
        return Case(graph, {**image, **forced}, quantizers, values, scales, outputs)

    return make


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", TYPED)
def test_libraries_compute_what_a_typed_file_says(
    case: Any, family: str, kind: str, library: str, tmp_path: Path
) -> None:
    pytest.importorskip(library)
    made: Case = case(kind)
    path = tmp_path / "forced.onnx"
    onnx.save(made.graph, path)
    asked = [*made.quantizers, *made.outputs]
    found = dict(zip(asked, RUN[library](path, made.feeds, asked), strict=True))
    for name, before in made.quantizers.items():
        steps = found[name].astype(np.int64) - made.values[name]
        assert np.abs(steps).max() <= 1, name
        exact = made.values[before].astype(np.float64) / made.scales[name]
        from_a_tie = np.abs(exact - np.floor(exact) - 0.5)[steps != 0]
        assert from_a_tie.max(initial=0) <= FROM_A_TIE[library, kind[-4:]], name
    wanted, answered = (scores_and_boxes(made.outputs, v) for v in (made.values, found))
    off = np.abs(wanted - answered).max(axis=-1) > (
        FLOAT if kind == "int8_fp32" else OUTPUT_LIMITS[library]
    )
    suppressed = int(family == "faster_rcnn")  # a near tie of two overlaps keeps another box
    assert off.sum() <= suppressed


@pytest.fixture(scope="module")
def answers(family: str, family_files: Any) -> Any:
    """Makes what a file of the family answers to the frame as it is typed, once."""
    files = family_files(family)
    frame = preprocessed(files.model.spec)

    @cache
    def make(kind: str) -> NDArray[np.float32]:
        return rows(*OnnxRunner(getattr(files, kind))(frame))

    return make


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["fp16", "int8_fp16"])
def test_typed_files_run_about_as_near_to_their_model_as_they_are(
    family: str, family_files: Any, answers: Any, kind: str, library: str
) -> None:
    """Networks that are not trained have near ties, which move some queries far: medians count."""
    pytest.importorskip(library)
    files = family_files(family)
    session = backend(library).open_session(getattr(files, kind))
    session.images[...] = preprocessed(files.model.spec)
    found = rows(*session.infer())
    session.close()
    assert distance(answers("fp32"), found) <= 1.5 * distance(answers("fp32"), answers(kind)) < 0.3


def preprocessed(spec: Any) -> NDArray[np.float32]:
    images = np.zeros((1, 3, *spec.input_hw), np.float32)
    Preprocessor(spec)(textured_frames(spec.input_hw, 1)[0], images[0])
    return images


def unrounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let a graph compute in FP32 what it has in FP16, with the constants that it has."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.value_info[:]
    attributes = [a for n in wide.graph.node for a in n.attribute]
    for tensor in (*wide.graph.initializer, *(a.t for a in attributes if a.HasField("t"))):
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for attribute in attributes:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
    return wide


def activation_quantizers(model: onnx.ModelProto) -> dict[str, str]:
    """Name the output of each Q of an activation, and its input."""
    constants = Wiring(model.graph).constants
    return {
        n.output[0]: n.input[0]
        for n in model.graph.node
        if n.op_type == "QuantizeLinear" and n.input[0] not in constants
    }


def with_outputs(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """Make some tensors of a graph its outputs."""
    made = onnx.shape_inference.infer_shapes(model)
    graph = made.graph
    known = {v.name: v for v in (*graph.value_info, *graph.output)}
    del graph.output[:], graph.value_info[:]
    graph.output.extend(known[name] for name in outputs)
    return made


def forced_graph(model: onnx.ModelProto, forced: Values, outputs: Sequence[str]) -> onnx.ModelProto:
    """Let the readers of quantizers and selections read inputs instead."""
    made = selection_graph(model, forced=True).model
    graph = made.graph
    for node in graph.node:
        for position, name in enumerate(node.input):
            if f"{name}{FORCED}" in forced:
                node.input[position] = f"{name}{FORCED}"
    inputs = [i for i in graph.input if i.name not in forced]
    inputs += [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in forced.items()
    ]
    del graph.input[:]
    graph.input.extend(inputs)
    return with_outputs(made, outputs)


def run_in_onnxruntime(path: Path, feeds: Values, asked: Sequence[str]) -> list[NDArray[Any]]:
    module: Any = backend("onnxruntime")
    engine = module.start_engine(path, module.session_options(1), [module.CPU])
    found: list[NDArray[Any]] = engine.run(list(asked), dict(feeds))
    return found


def run_in_openvino(path: Path, feeds: Values, asked: Sequence[str]) -> list[NDArray[Any]]:
    module: Any = backend("openvino")
    request = module.compiled_graph(module.read_graph(path), path, 1).create_infer_request()
    request.infer(dict(feeds))
    return [request.get_tensor(name).data.copy() for name in asked]


RUN = {"onnxruntime": run_in_onnxruntime, "openvino": run_in_openvino}


def scores_and_boxes(outputs: Sequence[str], values: Values) -> NDArray[np.float32]:
    return rows(*(values[name] for name in outputs))


def rows(logits: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores and box of each query."""
    return np.concatenate([1 / (1 + np.exp(-logits[0])), boxes[0]], axis=-1)


def distance(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """How far the nearest answer is, for the median query."""
    return float(np.median(np.abs(wanted[:, None] - found[None]).max(-1).min(1)))
