"""TensorRT's plugin for deformable attention as a node, with a function that computes it elsewhere.

The node is named as the plugin, `MultiscaleDeformableAttnPlugin_TRT`, version 1. The file defines a
function of the same name of ONNX's own operators, so that ONNX Runtime runs the very file that
TensorRT builds. What was read of the plugin and the parser, in the sources:

* NVIDIA/TensorRT, plugin/multiscaleDeformableAttnPlugin: inputs value (N, S, M, D), spatial_shapes
  (L, 2) INT32 of height and width, level_start_index (L) INT32, sampling_loc (N, Q, M, L, P, 2) as
  x and y in [0, 1] from edge to edge, attention_weights (N, Q, M, L, P); output (N, Q, M, D). All
  floats are of one type, FP32 or FP16, in which the kernel computes places and sums, too. It has no
  attributes. TensorRT 10.11 added version 2 with the same inputs beside version 1; 10.3 has version
  1 alone, and the notes to 11.0 do not list it among the plugins that are gone.
* onnx/onnx-tensorrt, ModelImporter.cpp, ``parseNode`` and ``isNodeInPluginRegistry``: the parser
  looks for a plugin of the node's name, and of its attributes ``plugin_version`` and
  ``plugin_namespace``, before it takes a function of the file: releases of TensorRT 10 for each
  node that has a function, later ones only where the node has ``plugin_namespace``. Without such a
  plugin it takes the function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from collections.abc import Iterator

PLUGIN = "MultiscaleDeformableAttnPlugin_TRT"
VERSION, NAMESPACE = "1", ""
DOMAIN = "edgedetr"
"""Domain of the node, which the parser does not read; ``trt.plugins`` is ONNX Runtime's own."""

PLACES = 3
"""Position of the places among the node's inputs."""

_INPUTS = ("value", "shapes", "starts", "places", "weights")


def is_plugin(node: onnx.NodeProto) -> bool:
    """Tell whether a node is TensorRT's plugin."""
    return bool(node.op_type == PLUGIN and node.domain == DOMAIN)


def plugin_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes of a graph that are TensorRT's plugin."""
    return [node for node in model.graph.node if is_plugin(node)]


def is_defined(model: onnx.ModelProto) -> bool:
    """Tell whether a model says what its plugin nodes compute."""
    return any(f.name == PLUGIN and f.domain == DOMAIN for f in model.functions)


def define_plugin(model: onnx.ModelProto) -> None:
    """Write into a model with plugin nodes what they compute, in operators of its own opset.

    Simplifiers and converters drop functions, so this comes behind each of them.
    """
    if not plugin_nodes(model):
        return
    others = [f for f in model.functions if (f.domain, f.name) != (DOMAIN, PLUGIN)]
    opset = next(o for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if not any(o.domain == DOMAIN for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, int(VERSION)))
    del model.functions[:]
    model.functions.extend([*others, _function(opset.version)])


def _function(opset: int) -> onnx.FunctionProto:
    """Write the function: of any number of levels, with free sizes, in FP32.

    For each head the rows of all maps are one table. A cell outside a map is moved inside and has
    no share, as in `edgedetr.export.transforms.deformable_attention`.
    """
    nodes = [*_cells(), *_corners(), *_sum()]
    imports = [helper.make_opsetid("", opset)]
    return helper.make_function(DOMAIN, PLUGIN, list(_INPUTS), ["read"], nodes, imports)


def _cells() -> Iterator[onnx.NodeProto]:
    """Write for x and y the two cells around a place and their shares, (N, Q, M, L, P, 2) each."""
    yield _constant("zero", 0.0)
    yield _constant("one", 1.0)
    yield _constant("half", 0.5)
    yield _constant("minus_one", -1.0)
    yield _constant("turned", [1, 0])
    yield _constant("second", [1])
    yield _node("Gather", "shapes turned", "widths_first", axis=1)
    yield _node("Cast", "widths_first", "sizes_of_levels", to=TensorProto.FLOAT)
    yield _node("Unsqueeze", "sizes_of_levels second", "sizes")
    yield _node("Sub", "sizes one", "last")
    yield _node("Mul", "places sizes", "scaled")
    yield _node("Sub", "scaled half", "shifted")
    yield _node("Max", "shifted minus_one", "bounded")
    yield _node("Min", "bounded sizes", "at")
    yield _node("Floor", "at", "floor")
    yield _node("Min", "floor last", "before")
    yield _node("Add", "before one", "behind")
    yield _node("Sub", "at before", "share")
    yield _node("Sub", "one share", "rest")
    yield _node("Sub", "sizes behind", "room")
    yield _node("Max", "before zero", "low_cell")
    yield _node("Min", "rest behind", "low_share")
    yield _node("Min", "behind last", "high_cell")
    yield _node("Min", "share room", "high_share")


def _corners() -> Iterator[onnx.NodeProto]:
    """Write row and weight of each of the four cells around a place, (N, M, Q, L * P) each."""
    yield _constant("x", 0)
    yield _constant("y", 1)
    yield _constant("flat", [0, 0, 0, -1])
    yield _node("Gather", "sizes x", "widths", axis=2)
    yield _node("Cast", "widths", "width", to=TensorProto.INT64)
    yield _node("Cast", "starts", "wide_starts", to=TensorProto.INT64)
    yield _node("Unsqueeze", "wide_starts second", "first")
    for end in ("low", "high"):
        yield _node("Cast", f"{end}_cell", f"{end}_whole", to=TensorProto.INT64)
        for axis in ("x", "y"):
            yield _node("Gather", f"{end}_whole {axis}", f"{end}_{axis}", axis=-1)
            yield _node("Gather", f"{end}_share {axis}", f"{end}_{axis}_share", axis=-1)
    for line in ("low", "high"):
        yield _node("Mul", f"{line}_y width", f"{line}_cells_before")
        yield _node("Add", f"{line}_cells_before first", f"{line}_line")
        yield _node("Mul", f"{line}_y_share weights", f"{line}_weight")
        for column in ("low", "high"):
            corner = f"{line}_{column}"
            yield _node("Add", f"{line}_line {column}_x", f"{corner}_row")
            yield _node("Mul", f"{line}_weight {column}_x_share", f"{corner}_weight")
            for kind in ("row", "weight"):
                name = f"{corner}_{kind}"
                yield _node("Reshape", f"{name} flat", f"{name}_flat")
                yield _node("Transpose", f"{name}_flat", f"{name}_of_head", perm=[0, 2, 1, 3])


def _sum() -> Iterator[onnx.NodeProto]:
    """Read the rows of each head and sum them, weighted."""
    corners = [f"{line}_{column}" for line in ("low", "high") for column in ("low", "high")]
    yield _constant("end", [-1])
    yield _constant("next_to_end", [3])
    for kind in ("row", "weight"):
        joined = " ".join(f"{corner}_{kind}_of_head" for corner in corners)
        yield _node("Concat", joined, f"{kind}s_of_all", axis=-1)
    yield _node("Unsqueeze", "rows_of_all end", "indices")
    yield _node("Transpose", "value", "table", perm=[0, 2, 1, 3])
    yield _node("GatherND", "table indices", "cells", batch_dims=2)
    yield _node("Unsqueeze", "weights_of_all next_to_end", "row_of_weights")
    yield _node("MatMul", "row_of_weights cells", "row_of_sums")
    yield _node("Squeeze", "row_of_sums next_to_end", "sums")
    yield _node("Transpose", "sums", "read", perm=[0, 2, 1, 3])


def _node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    node = helper.make_node(kind, inputs.split(), [output])
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return node


def _constant(name: str, value: float | list[int]) -> onnx.NodeProto:
    kind = TensorProto.FLOAT if isinstance(value, float) else TensorProto.INT64
    values = value if isinstance(value, list) else [value]
    dims = [len(values)] if isinstance(value, list) else []
    tensor = helper.make_tensor(name, kind, dims, values)
    return helper.make_node("Constant", [], [name], value=tensor)
