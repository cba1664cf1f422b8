"""Count what an ONNX graph computes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgedetr.graph.exact import exact_session, run_session
from edgedetr.graph.wiring import LAYERS, label
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

Shapes = dict[str, tuple[int, ...]]


def macs(model: onnx.ModelProto) -> dict[str, int]:
    """Count the multiply-accumulates of each convolution and matrix product, for one batch.

    Free sizes of the inputs count as 1. Twice the sum, in units of 1e9, are the GFLOPs.

    Returns:
        Label of the node (see `edgedetr.graph.wiring.label`) to its count, in graph order.

    Raises:
        ArtifactError: If a shape can be found neither by inference nor by running the model.
    """
    shapes = _inferred_shapes(model)
    counted = [n for n in model.graph.node if n.op_type in LAYERS]
    wanted = {name for node in counted for name in (*node.input[:2], node.output[0])}
    if not wanted <= shapes.keys():
        shapes |= _measured_shapes(model, wanted - shapes.keys())
    counts: dict[str, int] = {}
    for node in counted:
        counts[label(node)] = counts.get(label(node), 0) + _macs_of_node(node, shapes)
    return counts


def int8_macs(model: onnx.ModelProto) -> dict[str, int]:
    """Count as `macs` does, but only the nodes that read dequantized INT8 or FP8 on both sides."""
    dequantized = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    inside = {label(n) for n in model.graph.node if dequantized.issuperset(n.input[:2])}
    return {name: count for name, count in macs(model).items() if name in inside}


def count_nodes(model: onnx.ModelProto) -> dict[str, int]:
    """Count the nodes of each operator, most frequent first."""
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _macs_of_node(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    first, second, out = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    transposed = node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(out) * (first[0] if transposed else first[-1])


def _inferred_shapes(model: onnx.ModelProto) -> Shapes:
    """Return the shapes that are known without running the model."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_value = dim.dim_value or 1
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    fixed.graph.ClearField("value_info")
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes: Shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        dims = tuple(d.dim_value for d in tensor.shape.dim)
        if tensor.HasField("shape") and all(d > 0 for d in dims):
            shapes[value.name] = dims
    return shapes


def _measured_shapes(model: onnx.ModelProto, names: set[str]) -> Shapes:
    """Run the model once on zeros, for graphs that nobody simplified."""
    traced = onnx.ModelProto()
    traced.CopyFrom(model)
    del traced.graph.output[:]
    traced.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names))
    try:
        session = exact_session(traced, "the model", fused="none")
        feed = {i.name: _zeros(i.type.tensor_type) for i in model.graph.input}
        values = run_session(session, None, feed, "the model")
    except ArtifactError as error:
        raise ArtifactError(
            f"the shapes of {len(names)} tensors are unknown and the model does not run on zeros: "
            f"{error}"
        ) from error
    return {name: np.shape(value) for name, value in zip(sorted(names), values, strict=True)}


def _zeros(tensor: onnx.TypeProto.Tensor) -> np.ndarray:
    shape = [d.dim_value or 1 for d in tensor.shape.dim]
    return np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
