"""Run an ONNX graph on the CPU in exactly the precision that it is typed in.

ONNX Runtime takes two shortcuts there. Its INT8 kernels saturate on CPUs without VNNI; an option
turns them off. And it computes chains of FP16 nodes in FP32 without rounding in between, which
hides every overflow. No option turns that off, so FP16 graphs are rewritten to compute in FP32 and
to round each output to FP16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgedetr.graph.wiring import label, replace_items
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Precision = Literal["fp32", "fp16", "fp8", "int8"]
"""The coarsest number format of a model, finest first."""

EIGHT_BITS: tuple[Precision, ...] = ("fp8", "int8")
"""The formats of Q/DQ pairs."""

Fused = Literal["all", "basic", "none"]
"""Which nodes ONNX Runtime may fuse."""

MAX_FP16 = 65504.0
"""The largest finite number of FP16."""

UNROUNDED = "::unrounded"
"""Suffix of a node's output before it is rounded to FP16."""

_FATAL_ONLY = 4
_MOVES = {
    *("Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity"),
    *("Max", "MaxPool", "Min", "Pad", "Relu", "Reshape", "Slice"),
    *("Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where"),
}
"""Operators whose outputs are among their inputs and need no second rounding."""


@dataclass(frozen=True, eq=False)
class ExactGraph:
    """A graph that ONNX Runtime computes in the precision it is typed in.

    Attributes:
        model: The graph; it holds no FP16 numbers. Tensors keep their names.
        half: The tensors that were FP16 and are rounded to it.
        precision: The coarsest number format of the graph.
    """

    model: onnx.ModelProto
    half: frozenset[str]
    precision: Precision


def exact_graph(model: onnx.ModelProto) -> ExactGraph:
    """Rewrite what ONNX Runtime would compute in another precision than the graph's types."""
    precision = coarsest_precision(model)
    if not _holds_fp16(model):
        return ExactGraph(model, frozenset(), precision)
    half = _half_tensors(model)
    single = onnx.ModelProto()
    single.CopyFrom(model)
    graph = single.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        _widen(tensor)
    nodes = [made for node in graph.node for made in _rounded(node, half)]
    replace_items(graph.node, nodes)
    return ExactGraph(single, half, precision)


def exact_session(
    model: onnx.ModelProto, name: str, *, fused: Fused = "all", in_order: bool = False
) -> onnxruntime.InferenceSession:
    """Open a session on the CPU that computes Q/DQ pairs as they are written.

    Args:
        model: A graph; with FP16 in it, one of `exact_graph`.
        name: Its name in messages.
        fused: Which nodes may be fused: loading takes longer, runs are faster.
        in_order: Run nodes in graph order where possible, which frees tensors early.

    Raises:
        ArtifactError: If ONNX Runtime refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = {
        "all": levels.ORT_ENABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "none": levels.ORT_DISABLE_ALL,
    }[fused]
    if in_order:
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        raise ArtifactError(
            f"{name}: ONNX Runtime cannot load it, export it again: {_line(error)}"
        ) from error


def run_session(
    session: onnxruntime.InferenceSession,
    names: Sequence[str] | None,
    feeds: dict[str, np.ndarray],
    name: str,
) -> list[np.ndarray]:
    """Run a session.

    Args:
        session: What `exact_session` opened.
        names: The outputs to return; all when None.
        feeds: The inputs by name.
        name: The model's name in messages.

    Raises:
        ArtifactError: If a node fails.
    """
    try:
        answers: list[np.ndarray] = session.run(None if names is None else list(names), feeds)
    except Exception as error:
        raise ArtifactError(f"{name}: ONNX Runtime cannot run it: {_line(error)}") from error
    return answers


def coarsest_precision(model: onnx.ModelProto) -> Precision:
    """Return the coarsest number format of a graph: FP8 or INT8 of Q/DQ pairs, FP16, or FP32."""
    pairs = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    if pairs:
        stored = {t.name: t.data_type for t in model.graph.initializer}
        kinds = {stored.get(node.input[2]) if len(node.input) > 2 else None for node in pairs}
        return "fp8" if kinds == {TensorProto.FLOAT8E4M3FN} else "int8"
    return "fp16" if _holds_fp16(model) else "fp32"


def _holds_fp16(model: onnx.ModelProto) -> bool:
    half = TensorProto.FLOAT16
    return any(t.data_type == half for t in model.graph.initializer) or any(
        (a.name == "to" and a.i == half) or a.t.data_type == half
        for node in model.graph.node
        for a in node.attribute
    )


def _half_tensors(model: onnx.ModelProto) -> frozenset[str]:
    """Name the outputs of nodes in FP16."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return frozenset(
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    )


def _widen(tensor: TensorProto) -> None:
    """Store FP16 constants as FP32."""
    if tensor.data_type == TensorProto.FLOAT16:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _rounded(node: onnx.NodeProto, half: frozenset[str]) -> Iterator[onnx.NodeProto]:
    """Make a node compute in FP32, and round its FP16 outputs behind it."""
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _widen(attribute.t)
    rounds = [name for name in node.output if name in half]
    if not rounds or node.op_type in _MOVES or node.op_type == "Constant":
        yield node
        return
    if node.op_type == "Cast":
        yield from _round(node.input[0], node.output[0], label(node))
        return
    own = {name: name + UNROUNDED for name in rounds}
    outputs = [own.get(name, name) for name in node.output]
    del node.output[:]
    node.output.extend(outputs)
    yield node
    for name, before in own.items():
        yield from _round(before, name, f"{name}::rounded")


def _round(source: str, target: str, name: str) -> Iterator[onnx.NodeProto]:
    middle = f"{target}::fp16"
    yield helper.make_node("Cast", [source], [middle], f"{name}::down", to=TensorProto.FLOAT16)
    yield helper.make_node("Cast", [middle], [target], name, to=TensorProto.FLOAT)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
