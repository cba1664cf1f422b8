"""Cut a graph into the parts of a network that a person can name.

PyTorch's exporters write a node's modules into its name (``/backbone/stages.1/layers.0/Conv``), or
at least into the names of its weights (``backbone.stages.1.layers.0.weight``).
"""

from __future__ import annotations

import re
from collections import Counter
from os.path import commonprefix
from typing import TYPE_CHECKING

from edgedetr.graph.wiring import LAYERS, Wiring, label, parameters, reads

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

SHARE = 10
"""A block holds at most this part, a tenth, of a model's layers."""
UNNAMED = 20
"""How many blocks of equally many layers a graph without names is cut into, about."""

_ATTENTION = re.compile(r"attn|attention")

_ENTRY = re.compile(r"\.\d+$")

_Scope = tuple[str, ...]


def block_names(model: onnx.ModelProto) -> dict[str, str]:
    """Say which block each node belongs to.

    A block is the widest scope that holds at most a tenth of the layers, and no attention beside
    other things: a stage of the backbone, a fusion block, a decoder layer's attention, a head.
    What has no layer of its own, such as a norm, belongs to the block before it, and a constant to
    the first that reads it. A graph without scopes is cut at its layers: ``block_00``,
    ``block_01``.

    Returns:
        Label of each node (see `edgedetr.graph.wiring.label`) to the name of its block, in the
        order of the graph, constants last.
    """
    wiring = Wiring(model.graph)
    named = _scoped_blocks(wiring) or _numbered_blocks(wiring)
    current = next(iter(named.values()), "block_00")
    blocks: dict[int, str] = {}
    constants: list[int] = []
    for index, node in enumerate(wiring.nodes):
        if not any(name not in wiring.constants for name in reads(node)):
            constants.append(index)
            continue
        current = named.get(index, current)
        blocks[index] = current
    for index in reversed(constants):
        readers = (r for name in wiring.nodes[index].output for r in wiring.readers.get(name, ()))
        blocks[index] = blocks.get(next(readers, -1), current)
    return {label(wiring.nodes[index]): block for index, block in blocks.items()}


def _scoped_blocks(wiring: Wiring) -> dict[int, str]:
    """Name the block of each node that lies in one; empty where most layers tell no scope."""
    scopes = {index: _scope(node, wiring) for index, node in enumerate(wiring.nodes)}
    owners = _owners(scopes, wiring)
    scopes = {i: (*owners.get(scope[:1], ()), *scope) for i, scope in scopes.items()}
    layers = [i for i, node in enumerate(wiring.nodes) if node.op_type in LAYERS]
    if 2 * sum(bool(scopes[i]) for i in layers) <= len(layers):
        return {}
    counts = Counter(scopes[i][:depth] for i in layers for depth in range(len(scopes[i]) + 1))
    limit = max(1, len(layers) // SHARE)
    around = {scope[:depth] for scope in counts for depth in range(len(scope))}
    too_wide = {scope for scope in around if counts[scope] > limit}
    for scope in counts:
        depth = next((d for d, part in enumerate(scope) if _ATTENTION.search(part)), 0)
        too_wide.update(_prefixes(scope[:depth]))
    cuts = {
        index: next(s for s in _prefixes(scope) if s not in too_wide)
        for index, scope in scopes.items()
        if counts.keys() & set(_prefixes(scope)) - too_wide
    }
    shared = len(commonprefix(list(cuts.values())))  # noqa: RUF071 - it is given tuples
    return {index: "/".join(cut[shared:] or cut[-1:]) for index, cut in cuts.items()}


def _owners(scopes: Mapping[int, _Scope], wiring: Wiring) -> dict[_Scope, _Scope]:
    """Say what a list belongs to whose entry, ``layers.0``, is the outermost scope of nodes.

    Such an entry was called by itself; the names of its parameters tell.
    """
    found: dict[_Scope, set[str]] = {}
    for index, scope in scopes.items():
        if _ENTRY.search("".join(scope[:1])):
            inside = re.compile(rf"(?:^|\.)(\w+)\.{re.escape(scope[0])}\.")
            names = (inside.search(name) for name in parameters(index, wiring))
            found.setdefault(scope[:1], set()).update(m[1] for m in names if m)
    return {entry: tuple(names) for entry, names in found.items() if len(names) == 1}


def _prefixes(scope: _Scope) -> list[_Scope]:
    return [scope[:depth] for depth in range(1, len(scope) + 1)]


def _numbered_blocks(wiring: Wiring) -> dict[int, str]:
    """Start a block at a layer wherever the last one has its share of layers."""
    layers = [i for i, node in enumerate(wiring.nodes) if node.op_type in LAYERS]
    length = max(1, len(layers) // UNNAMED)
    return {index: f"block_{n // length:02}" for n, index in enumerate(layers)}


def _scope(node: onnx.NodeProto, wiring: Wiring) -> _Scope:
    """Return the modules that a node lies in, outermost first; empty where nothing tells.

    A list of modules and its entry, ``blocks/blocks.0``, count as one.
    """
    name = label(node)
    if "/" in name:
        parts = name.strip("/").split("/")[:-1]
    else:
        dotted = [n for n in node.input if n in wiring.constants and n.count(".") > 1]
        parts = re.sub(r"\.(?=\d+(\.|$))", "\0", dotted[0]).split(".")[:-1] if dotted else []
        parts = [part.replace("\0", ".") for part in parts]
    inner = [*parts[1:], ""]
    return tuple(p for p, q in zip(parts, inner, strict=False) if not q.startswith(f"{p}."))
