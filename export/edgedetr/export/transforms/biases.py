"""Correct the biases of INT8 layers for what rounding shifts the mean of their channels by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper, numpy_helper

from edgedetr.graph.wiring import label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from edgedetr.calib.placement import Point
    from edgedetr.export.transforms.qdq_nodes import NodeMaker
    from edgedetr.graph.wiring import Wiring


def shift_biases(
    wiring: Wiring,
    chosen: Iterable[Point],
    shifts: Mapping[str, Sequence[float]],
    maker: NodeMaker,
) -> dict[int, list[onnx.NodeProto]]:
    """Add to the bias of each INT8 layer; one without a bias gets one.

    Args:
        wiring: The graph, whose nodes are changed.
        chosen: Its INT8 layers.
        shifts: The result of a layer to what is added to each of its channels.
        maker: Stores the new biases.

    Returns:
        Index of a node to the nodes that come behind it.
    """
    added = {}
    for point in chosen:
        node = wiring.nodes[point.index]
        shift = np.asarray(shifts.get(node.output[0], ()), np.float32)
        if not shift.any():
            continue
        holder, position = _bias(wiring, point, shift.size)
        if holder is None:
            added[point.index] = [_addition(node, shift, maker)]
        elif position == len(holder.input):
            holder.input.append(_stored(f"{label(node)}_bias", shift, wiring, maker))
        else:
            name = holder.input[position]
            values = numpy_helper.to_array(wiring.constants[name])
            shifted = values + shift.reshape(values.shape)
            holder.input[position] = _stored(f"{name}_corrected", shifted, wiring, maker)
    return added


def _bias(wiring: Wiring, point: Point, channels: int) -> tuple[onnx.NodeProto | None, int]:
    """Find the node that reads a layer's bias, and its position; None where it has no constant."""
    node = wiring.nodes[point.index]
    if node.op_type == "Conv" and len(node.input) == 2:
        return node, 2
    readers = [wiring.nodes[i] for i in wiring.readers.get(node.output[0], ())]
    behind = readers[0] if [n.op_type for n in readers] == ["Add"] else None
    holder = behind if node.op_type == "MatMul" else node
    is_scaled = any(a.name == "beta" and a.f != 1.0 for a in node.attribute)
    if holder is not None and not is_scaled:
        for position, name in enumerate(holder.input):
            is_weight = holder is node and position < 2
            if name in wiring.constants and not is_weight and _fits(wiring, name, channels):
                return holder, position
    return None, 0


def _fits(wiring: Wiring, name: str, channels: int) -> bool:
    """Tell whether a constant holds a number for each channel of a layer's result."""
    dims = list(wiring.constants[name].dims)
    return dims[-1:] == [channels] and int(np.prod(dims)) == channels


def _stored(name: str, values: NDArray[np.float32], wiring: Wiring, maker: NodeMaker) -> str:
    """Store a bias, also where others look constants up, and return its name."""
    name = maker.constant(name, values)
    wiring.constants[name] = numpy_helper.from_array(values, name)
    return name


def _addition(node: onnx.NodeProto, shift: NDArray[np.float32], maker: NodeMaker) -> onnx.NodeProto:
    """Make the node that adds to a layer's result under its name; the layer gets another."""
    result = node.output[0]
    node.output[0] = maker.name(f"{result}_uncorrected")
    rank = (1, -1, 1, 1) if node.op_type == "Conv" else (-1,)
    bias = maker.constant(f"{result}_shift", shift.reshape(rank))
    return helper.make_node("Add", [node.output[0], bias], [result], f"{label(node)}_shift")
