"""Read tensors inside a graph, and run each block of one graph on its inputs in another.

A graph is run in parts that end at some of the wanted tensors, so that memory is bounded by the
size of a part and not by that of all activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgedetr.graph.exact import UNROUNDED, exact_session, run_session
from edgedetr.graph.subgraph import ending_at
from edgedetr.graph.wiring import Wiring, label, reads, replace_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Values = dict[str, np.ndarray]

PART_BYTES = 64 << 20
"""How much activation memory a part of a graph may return for one frame."""

FED = "::fed"
"""Suffix of the name of a tensor that is fed to a block instead of computed before it."""


@dataclass(frozen=True)
class Tensor:
    """An activation, before it is computed.

    Attributes:
        name: Its name.
        node: Label of the node that makes it.
        kind: Element type, of `onnx.TensorProto`.
        size_bytes: Its size; an unknown side counts as 1.
    """

    name: str
    node: str
    kind: int
    size_bytes: int


def activations(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Return every tensor that depends on the input, by name, in the order of the graph."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    types = {v.name: v.type.tensor_type for v in (*inferred.value_info, *inferred.output)}
    wiring = Wiring(model.graph)
    alive = set(wiring.inputs)
    found: dict[str, Tensor] = {}
    for node in wiring.nodes:
        if alive.isdisjoint(reads(node)):
            continue
        alive.update(node.output)
        for name in filter(None, node.output):
            kind = types.get(name, onnx.TypeProto.Tensor())
            sides = [max(d.dim_value, 1) for d in kind.shape.dim]
            size = helper.tensor_dtype_to_np_dtype(kind.elem_type or TensorProto.FLOAT).itemsize
            before = found.get(name + UNROUNDED)
            maker = before.node if before else label(node)
            found[name] = Tensor(name, maker, kind.elem_type, size * int(np.prod(sides)))
    return found


def parts(tensors: Iterable[Tensor], limit: int = PART_BYTES) -> Iterator[list[str]]:
    """Split a list of tensors where their sizes add up to ``limit`` bytes."""
    part: list[str] = []
    used = 0
    for tensor in tensors:
        if part and used + tensor.size_bytes > limit:
            yield part
            part, used = [], 0
        part.append(tensor.name)
        used += tensor.size_bytes
    if part:
        yield part


def tapped(
    model: onnx.ModelProto, names: Sequence[str], feeds: Iterable[Values], title: str
) -> Iterator[Values]:
    """Run a graph as far as some tensors, and yield them for one feed after another.

    Args:
        model: The graph.
        names: Tensors that its nodes make.
        feeds: Its inputs, frame by frame; those that are not needed are left out.
        title: What to call it in messages.

    Raises:
        ArtifactError: If ONNX Runtime cannot run it.
    """
    if not names:
        yield from ({} for _ in feeds)
        return
    part = ending_at(model, names)
    session = exact_session(part, title, fused="basic")
    wanted = [i.name for i in session.get_inputs()]
    for feed in feeds:
        found = run_session(session, names, {n: feed[n] for n in wanted}, title)
        yield dict(zip(names, found, strict=True))


@dataclass(frozen=True, eq=False)
class Blocks:
    """A graph of which every block reads fed tensors instead of the outputs of other blocks.

    Attributes:
        model: The graph; the inputs of its blocks are named as the tensors, with the suffix `FED`.
        block_of: Label of a node to its block.
        outputs: Block to its tensors that other blocks read and that both graphs have; in order.
        fed: Block to the tensors that it is fed.
    """

    model: onnx.ModelProto
    block_of: dict[str, str]
    outputs: dict[str, list[str]]
    fed: dict[str, list[str]]


def cut_into_blocks(
    model: onnx.ModelProto, named: Mapping[str, str], known: Mapping[str, Tensor]
) -> Blocks:
    """Cut a graph where a tensor goes from block to block.

    The query selection is cut off everywhere: the order that one graph selects is fed to the
    other, so that a rounding error cannot reorder everything behind it.

    Args:
        model: The graph; it is left as it is.
        named: Label of a node of the other graph to its block.
        known: The tensors of the other graph.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.value_info[:]
    wiring = Wiring(cut.graph)
    own = activations(model)
    blocks = _blocks_of(wiring, named, known)
    selected = {n.output[1] for n in wiring.nodes if n.op_type == "TopK" and len(n.output) > 1}
    shared = {n for n in own if n in known and own[n].kind == known[n].kind and own[n].kind}
    ends = {o.name for o in model.graph.output}
    outputs: dict[str, list[str]] = {block: [] for block in blocks}
    fed: dict[str, list[str]] = {block: [] for block in blocks}
    given: dict[str, None] = {}
    for index, node in enumerate(wiring.nodes):
        for position, name in enumerate(node.input):
            source = wiring.producer.get(name)
            if source is None or name not in shared:
                continue
            if blocks[source] != blocks[index] or name in selected:
                node.input[position] = name + FED
                given[name] = None
                fed[blocks[index]].append(name)
    for index, node in enumerate(wiring.nodes):
        outputs[blocks[index]] += [
            n for n in node.output if n in shared and (n in given or n in ends)
        ]
    cut.graph.input.extend(
        helper.make_tensor_value_info(name + FED, own[name].kind, None) for name in given
    )
    replace_items(cut.graph.node, wiring.nodes)
    block_of = {label(node): block for node, block in zip(wiring.nodes, blocks, strict=True)}
    made = {b: names for b, names in outputs.items() if names}
    made = dict(sorted(made.items(), key=lambda item: wiring.producer[item[1][-1]]))
    return Blocks(cut, block_of, made, {b: sorted(set(fed[b])) for b in made})


def _blocks_of(wiring: Wiring, named: Mapping[str, str], known: Mapping[str, Tensor]) -> list[str]:
    """Name the block of every node: its own, that of the tensor it makes, or its reader's."""
    blocks = [""] * len(wiring.nodes)
    for index in reversed(range(len(wiring.nodes))):
        node = wiring.nodes[index]
        made = (named.get(known[n].node, "") for n in node.output if n in known)
        read = (blocks[r] for n in node.output for r in wiring.readers.get(n, ()))
        blocks[index] = named.get(label(node)) or next(filter(None, made), "")
        blocks[index] = blocks[index] or next(filter(None, read), "rest")
    return blocks
