"""Quantize one graph where another is quantized, with ideal scales.

The error of such a graph is what INT8, or FP8, explains at these places. A graph with a much larger
error has a wrong scale, wrong weights or a wrong wiring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedetr.graph.exact import coarsest_precision
from edgedetr.graph.fp8 import FP8, FP8_OPSET, MOST
from edgedetr.graph.int8 import LEVELS, channel_axis, rounded_weights
from edgedetr.graph.requirements import raise_opset
from edgedetr.graph.wiring import LAYERS, Wiring, label, replace_items

if TYPE_CHECKING:
    from collections.abc import Iterator

_PER_LEVEL, _LEAST, _ZERO = "::per_level", "::least_scale", "::zero_point"


def ideally_quantized(model: onnx.ModelProto, like: onnx.ModelProto) -> onnx.ModelProto:
    """Quantize the inputs of every node that reads Q/DQ pairs in another graph.

    Activations get one scale from their largest magnitude, frame by frame, or a scale and a zero
    point where the other graph rounds to uint8; weights get a scale for each output channel.

    Args:
        model: A float graph; it is left as it is.
        like: A graph with Q/DQ pairs, whose nodes have the same labels.
    """
    is_fp8 = coarsest_precision(like) == "fp8"
    ideal = onnx.ModelProto()
    ideal.CopyFrom(raise_opset(model, FP8_OPSET) if is_fp8 else model)
    graph, wiring = ideal.graph, Wiring(ideal.graph)
    pairs = Wiring(like.graph)
    quantized = {label(node): node for node in pairs.nodes}
    nodes = []
    for node in wiring.nodes:
        twin = quantized.get(label(node), node)
        for position in _quantized_inputs(twin, pairs):
            name = node.input[position] if position < len(node.input) else ""
            new = f"{label(node)}::ideal_{position}"
            if name in wiring.constants:
                values = numpy_helper.to_array(wiring.constants[name])
                values = _rounded(values, node, is_fp8=is_fp8)
                graph.initializer.append(numpy_helper.from_array(values, new))
            elif name:
                unsigned = _is_unsigned(twin.input[position], pairs)
                nodes += _unsigned_rounding(name, new) if unsigned else _rounding(name, new)
            node.input[position] = new if name else ""
        nodes.append(node)
    replace_items(graph.node, nodes)
    for name, value in (
        (_PER_LEVEL, np.float32(1 / (MOST if is_fp8 else LEVELS))),
        (_LEAST, np.finfo(np.float32).tiny),
        (_ZERO, np.zeros((), FP8 if is_fp8 else np.int8)),
    ):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return ideal


def _quantized_inputs(node: onnx.NodeProto, wiring: Wiring) -> Iterator[int]:
    """Return the positions of a node's dequantized inputs."""
    for position, name in enumerate(node.input):
        source = wiring.source(name)
        if source is not None and source.op_type == "DequantizeLinear":
            yield position


def _is_unsigned(name: str, wiring: Wiring) -> bool:
    """Tell whether a tensor was dequantized from uint8."""
    source = wiring.source(name)
    zero = source.input[2] if source is not None and len(source.input) > 2 else ""
    found = wiring.constants.get(zero)
    return found is not None and found.data_type == onnx.TensorProto.UINT8


def _unsigned_rounding(name: str, new: str) -> list[onnx.NodeProto]:
    """Make the nodes that round a tensor to uint8 by its least and its largest value."""
    made = [f"{new}_uint8", f"{new}_scale", f"{new}_zero"]
    return [
        helper.make_node("DynamicQuantizeLinear", [name], made, f"{new}_Q"),
        helper.make_node("DequantizeLinear", made, [new], f"{new}_DQ"),
    ]


def _rounding(name: str, new: str) -> list[onnx.NodeProto]:
    """Make the nodes that round a tensor to INT8 or FP8 by its largest magnitude."""
    make = helper.make_node
    return [
        make("Abs", [name], [f"{new}_abs"], f"{new}_Abs"),
        make("ReduceMax", [f"{new}_abs"], [f"{new}_amax"], f"{new}_ReduceMax", keepdims=0),
        make("Mul", [f"{new}_amax", _PER_LEVEL], [f"{new}_step"], f"{new}_Mul"),
        make("Max", [f"{new}_step", _LEAST], [f"{new}_scale"], f"{new}_Max"),
        make("QuantizeLinear", [name, f"{new}_scale", _ZERO], [f"{new}_rounded"], f"{new}_Q"),
        make("DequantizeLinear", [f"{new}_rounded", f"{new}_scale", _ZERO], [new], f"{new}_DQ"),
    ]


def _rounded(values: np.ndarray, node: onnx.NodeProto, *, is_fp8: bool) -> np.ndarray:
    """Round what a node reads: weights for each output channel, others with one scale."""
    if node.op_type in LAYERS and values.ndim > 1:
        axis = channel_axis(node, values.ndim)
        return rounded_weights(values, axis, is_fp8=is_fp8)
    return rounded_weights(values.reshape(1, -1), 0, is_fp8=is_fp8).reshape(values.shape)
