"""Which nodes of a graph must stay in FP32 when the rest becomes FP16.

By rule: what makes box coordinates and places to read, because 11 bits are too few for a position
in an image of a thousand pixels, and normalisations that are spread over several nodes, because
their squares overflow. By range: what was seen to leave the range of FP16, or to come near it.
Rules look at operators and at who reads whom, never at names, so that they hold for foreign graphs.

Blocks are kept for their measured error by `edgedetr.export.search.fp32_blocks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from edgedetr.graph.sampling_plugin import PLACES, PLUGIN
from edgedetr.graph.wiring import reads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from edgedetr.calib.value_ranges import Range
    from edgedetr.graph.wiring import Wiring

LARGEST = 65504.0
LEAST_NORMAL = 2.0**-14
MARGIN = 4.0
"""How many times larger than seen a value may become and still fit."""

MULTIPLIERS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum")
"""Where the work is."""

_ENDS_OF_POSITIONS = (
    *MULTIPLIERS,
    *("LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization"),
    *("QuantizeLinear", "DequantizeLinear", "TopK"),
)
"""Positions are followed back to the features that they were made of, which end with these."""

_ROUND = ("Floor", "Ceil", "Round")
_PERIODIC = ("Log", "Sin", "Cos")
_READ_AT = {"GridSample": 1, "RoiAlign": 1, PLUGIN: PLACES}
"""Operators that read a map at places, and which of their inputs the places are."""

_TYPED_BY = ("dtype", "value_float", "value_floats")
"""Attributes that fix the type of a result."""

_GUARDED = {"Div", "Sqrt", "Log", "Reciprocal", "Pow"}
"""What must not read 0."""

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def islands(
    wiring: Wiring, types: Mapping[str, int], boxes: str, ranges: Mapping[str, Range]
) -> dict[int, str]:
    """Find the nodes that stay in FP32.

    Args:
        wiring: The graph.
        types: Element type of each tensor that is known.
        boxes: Name of the output that holds the boxes.
        ranges: What each float tensor was seen to hold.

    Returns:
        Index of each node to the reason: ``boxes``, ``positions``, ``logarithms``,
        ``normalisation``, ``range`` or ``types``.
    """
    found: dict[int, str] = {}
    rules = (
        ("types", _untyped(wiring, types)),
        ("boxes", _behind(wiring, types, [boxes])),
        ("positions", _positions(wiring, types)),
        ("logarithms", _logarithms(wiring, types)),
        ("normalisation", _normalisations(wiring)),
        ("range", _out_of_range(wiring, types, ranges)),
    )
    for reason, indices in rules:
        for index in indices:
            found.setdefault(index, reason)
    return found


def _untyped(wiring: Wiring, types: Mapping[str, int]) -> Iterator[int]:
    """Yield nodes with branches, sequences or a type of their own, and what branches read."""
    for index, node in enumerate(wiring.nodes):
        inner = reads(node) - set(node.input)
        yield from (wiring.producer[name] for name in inner if name in wiring.producer)
        unknown = any(name and name not in types for name in (*node.input, *node.output))
        own = {a.name for a in node.attribute if a.HasField("g") or a.name in _TYPED_BY}
        if inner or unknown or own:
            yield index


def _behind(wiring: Wiring, types: Mapping[str, int], tensors: Iterable[str]) -> set[int]:
    """Return the nodes that make positions out of features; see `_ENDS_OF_POSITIONS`."""
    found: set[int] = set()
    waiting = list(tensors)
    while waiting:
        name = waiting.pop()
        index = wiring.producer.get(name, -1)
        if index < 0 or index in found or types.get(name) not in _FLOATS:
            continue
        node = wiring.nodes[index]
        if node.op_type not in _ENDS_OF_POSITIONS or _is_integral(wiring, node):
            found.add(index)
            waiting.extend(node.input)
    return found


def _is_integral(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Tell whether a product takes the mean of a distribution, as D-FINE's boxes are made."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in wiring.constants:
        return False
    name = node.input[0]
    while name in wiring.producer:
        node = wiring.nodes[wiring.producer[name]]
        if node.op_type not in ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"):
            return node.op_type == "Softmax"
        name = node.input[0]
    return False


def _positions(wiring: Wiring, types: Mapping[str, int]) -> set[int]:
    """Return what makes indices and places to read, and the nodes that read there."""
    found = set()
    for index, node in enumerate(wiring.nodes):
        rounds = node.op_type in _ROUND or (
            node.op_type == "Cast" and types.get(node.output[0]) not in _FLOATS
        )
        if rounds and types.get(node.input[0]) in _FLOATS:
            found |= {index} | _behind(wiring, types, node.input)
        elif node.op_type in _READ_AT:
            places = node.input[_READ_AT[node.op_type]]
            found |= {index} | _behind(wiring, types, [places])
    return found | set(_differences(wiring, found))


def _differences(wiring: Wiring, positions: set[int]) -> Iterator[int]:
    """Yield differences of positions, such as shares of a cell, which are lost in FP16."""
    for index, node in enumerate(wiring.nodes):
        made = {wiring.producer.get(name, -1) for name in node.input}
        if node.op_type == "Sub" and made <= positions:
            yield index


def _logarithms(wiring: Wiring, types: Mapping[str, int]) -> set[int]:
    """Return inverse sigmoids, whose ends 11 bits cannot tell from 0 and 1, and encoded places."""
    found = set()
    for index, node in enumerate(wiring.nodes):
        if node.op_type in _PERIODIC:
            found |= {index} | _behind(wiring, types, node.input)
    return found


def _normalisations(wiring: Wiring) -> set[int]:
    """Return square, mean, root and quotient of norms that are not one node."""
    found = set()
    for index, node in enumerate(wiring.nodes):
        if node.op_type != "Sqrt":
            continue
        chain = _sum_before(wiring, node)
        if chain:
            found |= {index, *chain, *_divisions_after(wiring, node)}
    return found


def _sum_before(wiring: Wiring, node: onnx.NodeProto) -> list[int]:
    """Follow a root back through additions to the sum of squares; empty where there is none."""
    chain = []
    while True:
        inputs = [name for name in node.input if name in wiring.producer]
        made = [name for name in inputs if name not in wiring.constants]
        if not made:
            return []
        chain.append(wiring.producer[made[0]])
        node = wiring.nodes[chain[-1]]
        if node.op_type.startswith("Reduce"):
            squares = wiring.producer.get(node.input[0], -1)
            is_square = squares >= 0 and wiring.nodes[squares].op_type in ("Pow", "Mul")
            return [*chain, squares] if is_square else chain
        if node.op_type not in ("Add", "Clip", "Max"):
            return []


def _divisions_after(wiring: Wiring, node: onnx.NodeProto) -> Iterator[int]:
    for index in wiring.readers.get(node.output[0], ()):
        if wiring.nodes[index].op_type in ("Div", "Mul", "Reciprocal"):
            yield index
        if wiring.nodes[index].op_type == "Reciprocal":
            yield from _divisions_after(wiring, wiring.nodes[index])


def fits(values: Range) -> bool:
    """Tell whether FP16 holds the values, with `MARGIN`, and more than noise of them."""
    return values.magnitude == 0 or LEAST_NORMAL <= values.magnitude <= LARGEST / MARGIN


def _out_of_range(
    wiring: Wiring, types: Mapping[str, int], ranges: Mapping[str, Range]
) -> Iterator[int]:
    for index, node in enumerate(wiring.nodes):
        made = [n for n in (*node.input, *node.output) if n not in wiring.constants]
        if any(name in ranges and not fits(ranges[name]) for name in made) or any(
            types.get(name) in _FLOATS and _is_lost(wiring, node, name)
            for name in node.input
            if name in wiring.constants
        ):
            yield index


def _is_lost(wiring: Wiring, node: onnx.NodeProto, name: str) -> bool:
    """Tell whether FP16 cannot hold a constant: a value overflows, or all are nearly 0.

    What is added may be nearly 0, save where it keeps a divisor or a root from being 0.
    """
    values = np.abs(numpy_helper.to_array(wiring.constants[name]))
    largest = float(values[np.isfinite(values)].max(initial=0))
    if largest > LARGEST:
        return True
    is_added = node.op_type in ("Add", "Sub") or list(node.input).index(name) == 2
    after = (wiring.nodes[i].op_type for i in wiring.readers.get(node.output[0], ()))
    return 0 < largest < LEAST_NORMAL and not (is_added and _GUARDED.isdisjoint(after))
