"""A small graph that measures which share of a model's INT8 or FP8 activations an image clips.

It is the model up to its last quantized activation, and outputs one number: over all tensors
in front of a QuantizeLinear, the mean share of values beyond its 127 steps, or beyond FP8's 448,
to which 464 still rounds. The vehicle runs it on
a frame now and then, beside the engine that does the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedetr.graph.fp8 import MOST, MOST_STEP
from edgedetr.graph.int8 import LEVELS
from edgedetr.graph.subgraph import ending_at
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.health.clipping import SHARE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping


def clipping_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph for an INT8 or FP8 model, with the model's metadata.

    Args:
        model: What ``edgedetr export qdq`` wrote; it is left as it is.

    Raises:
        ArtifactError: If the model quantizes no activation.
    """
    constants = {t.name: t for t in model.graph.initializer}
    quantizers = [
        n
        for n in model.graph.node
        if n.op_type == "QuantizeLinear" and n.input[0] not in constants and n.input[1] in constants
    ]
    if not quantizers:
        raise ArtifactError("the model quantizes no activation; give one of edgedetr export qdq")
    part = ending_at(model, sorted({n.input[0] for n in quantizers}))
    part.metadata_props.extend(model.metadata_props)
    graph = part.graph
    shares = []
    for index, node in enumerate(quantizers):
        limit = float(numpy_helper.to_array(constants[node.input[1]])) * _largest(node, constants)
        name = f"{SHARE_NAME}_{index}"
        graph.initializer.append(
            numpy_helper.from_array(np.asarray(limit, np.float32), f"{name}_limit")
        )
        graph.node.extend(_share(node.input[0], name))
        shares.append(name)
    graph.node.append(helper.make_node("Mean", shares, [SHARE_NAME]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(SHARE_NAME, TensorProto.FLOAT, []))
    onnx.checker.check_model(part)
    return part


def _largest(node: onnx.NodeProto, constants: Mapping[str, TensorProto]) -> float:
    """Return how many steps a value may be before it is clipped."""
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    is_fp8 = zero is not None and zero.data_type == TensorProto.FLOAT8E4M3FN
    return MOST + MOST_STEP / 2 if is_fp8 else LEVELS + 0.5


def _share(tensor: str, name: str) -> list[onnx.NodeProto]:
    """Compute the share of a tensor's values that lie beyond a limit."""
    return [
        helper.make_node("Cast", [tensor], [f"{name}_real"], to=TensorProto.FLOAT),
        helper.make_node("Abs", [f"{name}_real"], [f"{name}_size"]),
        helper.make_node("Greater", [f"{name}_size", f"{name}_limit"], [f"{name}_beyond"]),
        helper.make_node("Cast", [f"{name}_beyond"], [f"{name}_count"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", [f"{name}_count"], [name], keepdims=0),
    ]
