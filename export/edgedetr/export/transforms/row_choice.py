"""Choose rows before the layers that compute each row alone, and not behind them.

RT-DETR and its kin predict a box for every token of the image and keep those of the selected
queries. Row by row, the boxes of the selected tokens are the same, for a fraction of the work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedetr.graph.wiring import Wiring, label, replace_items

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Shapes = Mapping[str, tuple[int, ...]]

_ROWS = 1  # the axis that counts tokens
_ALONE = ("Relu", "Sigmoid", "Tanh", "Gelu")


@dataclass
class _Chain:
    """Layers ahead of a choice of rows, each of which computes every row alone.

    Attributes:
        source: What the first of them reads.
        nodes: Indices of their nodes, the first one last.
        beside: What is added to their rows, each row another.
    """

    source: str
    nodes: list[int] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)


def rows_chosen_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a float32 graph in which rows are chosen as early as they can be.

    Args:
        model: The graph; tensors behind the choice keep their names.
    """
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    while _move_one(moved.graph, _shapes(moved)):
        pass
    return moved


def _move_one(graph: onnx.GraphProto, shapes: Shapes) -> bool:
    """Move the layers ahead of one choice behind it; return whether there were any."""
    wiring = Wiring(graph)
    for index, node in enumerate(wiring.nodes):
        rows = _chosen_rows(node, wiring, shapes)
        chain = _chain(index, wiring, shapes) if rows else None
        if rows and chain:
            _move(graph, wiring, index, rows, chain, shapes)
            return True
    return False


def _chosen_rows(node: onnx.NodeProto, wiring: Wiring, shapes: Shapes) -> str | None:
    """Return the indices (1, k, 1) of the rows that a node chooses; None where it does not."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    if node.op_type != "GatherElements" or axis != _ROWS or node.input[0] in wiring.constants:
        return None
    made = wiring.producer.get(node.input[1])
    tile = wiring.nodes[made] if made is not None else None
    if tile is None or tile.op_type not in {"Tile", "Expand"}:
        return None
    rows, chosen = shapes.get(tile.input[0], ()), shapes.get(node.output[0], ())
    is_whole = len(chosen) == 3 and rows == (*chosen[:2], 1)
    return str(tile.input[0]) if is_whole else None


def _chain(index: int, wiring: Wiring, shapes: Shapes) -> _Chain | None:
    """Follow what a choice reads upwards; None where there is no layer in between."""
    chain, reader = _Chain(str(wiring.nodes[index].input[0])), index
    has_layer = False
    while wiring.readers[chain.source] == [reader] and chain.source in wiring.producer:
        reader = wiring.producer[chain.source]
        found = _step(wiring.nodes[reader], chain.source, wiring, shapes)
        if found is None:
            break
        chain.source, beside = found
        chain.nodes.append(reader)
        chain.beside += beside
        has_layer |= wiring.nodes[reader].op_type == "MatMul"
    return chain if has_layer else None


def _step(
    node: onnx.NodeProto, result: str, wiring: Wiring, shapes: Shapes
) -> tuple[str, list[str]] | None:
    """Return what a node that computes each row alone reads, and what it adds to the rows."""
    if node.op_type in _ALONE:
        return str(node.input[0]), []
    if node.op_type == "MatMul":
        weight = wiring.constants.get(node.input[1])
        return (str(node.input[0]), []) if weight is not None and len(weight.dims) == 2 else None
    if node.op_type != "Add":
        return None
    whole = [str(n) for n in node.input if shapes.get(n) == shapes[result]]
    if len(whole) == 2:
        computed = [n for n in whole if _is_step(n, wiring)]
        return (computed[0], [n for n in whole if n != computed[0]]) if computed else None
    other = next((shapes[n] for n in node.input if n not in whole and n in shapes), (0, 0))
    return (whole[0], []) if whole and np.prod(other[:-1]) == 1 else None


def _is_step(tensor: str, wiring: Wiring) -> bool:
    made = wiring.producer.get(tensor)
    return made is not None and wiring.nodes[made].op_type in {*_ALONE, "MatMul", "Add"}


def _move(
    graph: onnx.GraphProto,
    wiring: Wiring,
    index: int,
    rows: str,
    chain: _Chain,
    shapes: Shapes,
) -> None:
    """Let a chain read chosen rows, behind the choice, and take the place of its result."""
    choice = wiring.nodes[index]
    indices = {shapes[choice.output[0]][-1]: str(choice.input[1])}
    added: list[onnx.NodeProto] = []
    for name in (chain.source, *chain.beside):
        added += _choosing(graph, choice, name, rows, shapes[name][-1], indices)
    chosen = {n.input[0]: n.output[0] for n in added if n.op_type == "GatherElements"}
    moved = [wiring.nodes[i] for i in reversed(chain.nodes)]
    for node in moved:
        node.input[:] = [chosen.get(name, name) for name in node.input]
    moved[-1].output[0] = choice.output[0]
    gone = {index, *chain.nodes}
    if not any(choice.input[1] in node.input for node in added):
        gone |= _only_for(index, choice.input[1], wiring)
    stale = {name for node in moved for name in node.output}
    ordered = [
        found
        for i, node in enumerate(wiring.nodes)
        for found in ([*added, *moved] if i == index else [] if i in gone else [node])
    ]
    values = [v for v in graph.value_info if v.name not in stale]
    replace_items(graph.node, ordered)
    replace_items(graph.value_info, values)


def _only_for(index: int, tensor: str, wiring: Wiring) -> set[int]:
    """Return the node that makes a tensor where only one node reads it."""
    return {wiring.producer[tensor]} if wiring.readers[tensor] == [index] else set()


def _choosing(
    graph: onnx.GraphProto,
    choice: onnx.NodeProto,
    tensor: str,
    rows: str,
    width: int,
    indices: dict[int, str],
) -> Iterator[onnx.NodeProto]:
    """Make the nodes that choose rows of a tensor (1, N, width), with indices for each width."""
    stem = f"{label(choice)}/{tensor.strip('/').replace('/', '.')}"
    if width not in indices:
        indices[width] = f"{stem}_rows"
        repeats = numpy_helper.from_array(np.array([1, 1, width], np.int64), f"{stem}_repeats")
        graph.initializer.append(repeats)
        yield helper.make_node("Tile", [rows, repeats.name], [indices[width]], f"{stem}/Tile")
    inputs, name = [tensor, indices[width]], f"{stem}/GatherElements"
    yield helper.make_node("GatherElements", inputs, [f"{stem}_chosen"], name, axis=_ROWS)


def _shapes(model: onnx.ModelProto) -> Shapes:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        found[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return found
