"""Cut a graph: the part of it that ends at some tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from edgedetr.graph.wiring import reads

if TYPE_CHECKING:
    from collections.abc import Sequence


def ending_at(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a graph that answers ``names``, in this order, and holds nothing else."""
    wanted = set(names)
    kept = []
    for node in reversed(model.graph.node):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(reads(node))
    part = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions
    )
    graph = part.graph
    graph.name = "part"
    graph.node.extend(reversed(kept))
    graph.initializer.extend(t for t in model.graph.initializer if t.name in wanted)
    graph.input.extend(i for i in model.graph.input if i.name in wanted)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return part
