"""Find in a torch network the points at which its INT8 export rounds.

The exported graph is the one source: it is quantized as `edgedetr export qdq` does, and every pair
of Q and DQ is traced back to a module. So a network that is trained with fake quantization rounds
where its export will, and its steps can be handed on to that export.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from onnx import numpy_helper

from edgedetr.calib.methods import METHODS
from edgedetr.calib.placement import calibration_tensors
from edgedetr.calib.stats import CalibrationStats, TensorRange
from edgedetr.distill.networks.fake_quantization import learnt_steps, used_layers
from edgedetr.export.transforms.quantize import quantize
from edgedetr.export.transforms.stored_ranges import StoredRanges
from edgedetr.graph.int8 import LEVELS, channel_axis
from edgedetr.graph.wiring import Wiring, label
from edgedetr.runtime.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx
    from numpy.typing import NDArray
    from torch import nn

    from edgedetr.calib.methods import Method
    from edgedetr.distill.model import Model
    from edgedetr.distill.networks.fake_quantization import Layer, Quantization, QuantizedLayer

_LINEAR = ("MatMul", "Gemm")


@dataclass(frozen=True, eq=False)
class Int8Node:
    """A node of a quantized graph that computes in INT8, and what it reads rounded.

    Attributes:
        label: Its name, which is that of the float32 graph.
        weight: Its float32 weights, output channels first.
        inputs: Its activation, first, and what a Concat joins into it: they share a step.
        step: The value of one INT8 step of them.
        skip: The other side of the addition that absorbs its result; empty where none does.
        skip_step: That of the skip; 0 where there is none.
    """

    label: str
    weight: NDArray[np.float32]
    inputs: tuple[str, ...]
    step: float
    skip: str = ""
    skip_step: float = 0.0


def trained_ranges(
    graph: onnx.ModelProto, model: Model, quantization: Quantization
) -> StoredRanges:
    """Give the steps with which a network was trained to the tensors of its exported graph.

    Args:
        graph: The float32 graph of the network.
        model: The network.
        quantization: Its steps.

    Raises:
        ArtifactError: If the graph rounds elsewhere than the network was trained to, or the method
            of its ranges is unknown.
    """
    nodes = int8_nodes(graph, quantize(graph, _unit_stats(graph, model), *quantization.choice))
    steps = {layer.path: layer for layer in _as_trained(model.network, quantization)}
    scales = _weight_scales(model.network, quantization)
    amax: dict[str, float] = {}
    weights: dict[str, list[float]] = {}
    for node, layer in zip(nodes, layers_of(model, nodes), strict=True):
        trained = steps.pop(layer.path, None)
        if trained is None or bool(trained.skip_step) != bool(node.skip):
            raise ArtifactError(f"the graph rounds at {node.label}, {_RETRAIN}")
        if layer.path in scales:
            weights[node.label] = scales[layer.path]
        wanted = dict.fromkeys(node.inputs, trained.input_step)
        if node.skip:
            wanted[node.skip] = trained.skip_step
        for tensor, step in wanted.items():
            if amax.setdefault(tensor, step * LEVELS) != step * LEVELS:
                raise ArtifactError(f"the graph has one range for {tensor}, {_RETRAIN}")
    if steps:
        raise ArtifactError(f"the graph does not round at {min(steps)}, {_RETRAIN}")
    return StoredRanges(
        include=quantization.include,
        exclude=quantization.exclude,
        method=_method(quantization),
        percentile=quantization.percentile,
        frames=quantization.frames,
        frames_sha256=quantization.frames_sha256,
        ranges=tuple(TensorRange(tensor, value, value) for tensor, value in amax.items()),
        weights=weights,
    )


def trained_graph(
    graph: onnx.ModelProto, model: Model, quantization: Quantization
) -> onnx.ModelProto:
    """Quantize the exported graph of a network as it was trained to be; see `trained_ranges`."""
    found = trained_ranges(graph, model, quantization)
    stats = replace(_unit_stats(graph, model), ranges=found.ranges, weights=found.weights)
    return quantize(graph, stats, *quantization.choice)


def _as_trained(network: nn.Module, quantization: Quantization) -> list[QuantizedLayer]:
    """Return the layers with the steps that they were trained to."""
    learnt = learnt_steps(network) if quantization.is_learnt else None
    if learnt is None:
        return list(quantization.layers)
    with torch.no_grad():
        found = {name: step.item() for name, step in learnt.of_activations().items()}
    return [
        replace(
            layer,
            input_step=found[layer.input_range],
            skip_step=found[layer.skip_range] if layer.skip_range else 0.0,
        )
        for layer in quantization.layers
    ]


def _weight_scales(network: nn.Module, quantization: Quantization) -> dict[str, list[float]]:
    """Map the path of each layer to the scales that its weights learnt; empty where none did."""
    learnt = learnt_steps(network) if quantization.is_learnt else None
    if learnt is None:
        return {}
    paths = [layer.path for layer in quantization.layers]
    return dict(zip(paths, (steps.tolist() for steps in learnt.of_weights()), strict=True))


def _method(quantization: Quantization) -> Method:
    """Return the method of calibration that a checkpoint names."""
    if quantization.method not in METHODS:
        raise ArtifactError(
            f"the network's ranges come from method {quantization.method!r}; wanted one of "
            f"{', '.join(METHODS)}; train it again with this version"
        )
    return cast("Method", quantization.method)


_RETRAIN = "unlike the network when it was trained for INT8; train it again with this version"


def _unit_stats(graph: onnx.ModelProto, model: Model) -> CalibrationStats:
    """Make stats of any ranges, for a quantization of which only the places count."""
    ranges = tuple(TensorRange(name, 1.0, 1.0) for name in calibration_tensors(graph))
    return CalibrationStats("", "", model.spec, "max", 100.0, 0, "", ranges)


def layers_of(model: Model, nodes: Sequence[Int8Node]) -> list[Layer]:
    """Find the module of each node, by its weights and then by its name.

    Raises:
        UsageError: If a node has no module of its own that a forward pass calls once.
    """
    images = torch.zeros(1, 3, *model.spec.input_hw)
    model.network.eval()
    layers = used_layers(model.network, lambda: model.predict(images))
    return [_layer_of(node, layers, f"{model.family}/{model.preset}") for node in nodes]


def _layer_of(node: Int8Node, layers: Sequence[Layer], model: str) -> Layer:
    alike = [layer for layer in layers if _same(layer.weight.numpy(), node.weight)]
    scope = f".{node.label.replace('/', '.')}."
    named = [layer for layer in alike if f".{layer.path}." in scope]
    found = alike if len(alike) == 1 else named
    if len(found) != 1 or found[0].calls != 1:
        reason = (
            f"its module {found[0].path} is called {found[0].calls} times"
            if len(found) == 1
            else f"{len(found)} modules have its weights and name"
        )
        raise UsageError(
            f"quantization-aware training does not cover {node.label} of {model}: {reason}; keep "
            "it float with qat.exclude"
        )
    return found[0]


def _same(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-6 * float(np.abs(b).max()))


def int8_nodes(graph: onnx.ModelProto, quantized: onnx.ModelProto) -> list[Int8Node]:
    """List the INT8 nodes of a quantized graph in its order, with all that is rounded for them.

    Args:
        graph: The float32 graph that it was made from.
        quantized: What `edgedetr.export.transforms.quantize.quantize` made of it.

    Raises:
        UsageError: If something is rounded that belongs to no such node.
    """
    plain, wiring = Wiring(graph.graph), Wiring(quantized.graph)
    originals = {label(node): node for node in plain.nodes}
    pairs = _pairs(wiring)
    computing = {
        index: node
        for index, node in enumerate(wiring.nodes)
        if node.op_type in ("Conv", *_LINEAR) and node.input[0] in pairs
    }
    skips = _skips(wiring, computing, pairs)
    unexplained = {(name, i) for name in pairs for i in wiring.readers.get(name, ())}
    unexplained -= {(node.input[0], index) for index, node in computing.items()}
    unexplained -= {(skip, index) for skip, index in skips.values()}
    found = []
    for index, node in computing.items():
        tensor, step = pairs[node.input[0]]
        joined = _joined(wiring, tensor, pairs)
        unexplained -= {(name, wiring.producer[tensor]) for name in joined}
        skip, skip_step = pairs[skips[index][0]] if index in skips else ("", 0.0)
        weight = _weight(originals[label(node)], plain.constants)
        inputs = (tensor, *(pairs[name][0] for name in joined))
        found.append(Int8Node(label(node), weight, inputs, step, skip, skip_step))
    if unexplained:
        name, index = min(unexplained, key=lambda item: item[1])
        raise UsageError(
            f"quantization-aware training does not cover that {label(wiring.nodes[index])} reads "
            f"{pairs[name][0]} rounded; keep float what comes behind it, with qat.exclude"
        )
    return found


def _pairs(wiring: Wiring) -> dict[str, tuple[str, float]]:
    """Map the result of each Q and DQ of an activation to the activation and its step."""
    pairs = {}
    for node in wiring.nodes:
        if node.op_type == "DequantizeLinear" and node.input[0] in wiring.producer:
            source = wiring.nodes[wiring.producer[node.input[0]]]
            step = numpy_helper.to_array(wiring.constants[source.input[1]])
            pairs[node.output[0]] = source.input[0], float(step)
    return pairs


def _skips(
    wiring: Wiring, computing: Mapping[int, onnx.NodeProto], pairs: Mapping[str, object]
) -> dict[int, tuple[str, int]]:
    """Map each node whose result meets a rounded skip to that skip and the addition."""
    owner = {node.output[0]: i for i, node in computing.items() if node.op_type == "Conv"}
    found = {}
    for index, node in enumerate(wiring.nodes):
        if node.op_type == "Add" and len(pairs.keys() & set(node.input)) == 1:
            skip, main = sorted(node.input, key=lambda name: name not in pairs)
            if main in owner and wiring.readers[main] == [index]:
                found[owner[main]] = skip, index
    return found


def _joined(wiring: Wiring, tensor: str, pairs: Mapping[str, tuple[str, float]]) -> tuple[str, ...]:
    """Name the rounded inputs of the Concat that makes a rounded tensor.

    Rounding its parts is rounding the whole where they share the step and nobody else reads it.
    """
    node = wiring.nodes[wiring.producer[tensor]] if tensor in wiring.producer else None
    if node is None or node.op_type != "Concat":
        return ()
    steps = {pairs[name][1] for name in node.input if name in pairs}
    quantizers = [i for i in wiring.readers[tensor] if wiring.nodes[i].op_type == "QuantizeLinear"]
    if len(steps) != 1 or quantizers != wiring.readers[tensor]:
        return ()
    own = {
        float(numpy_helper.to_array(wiring.constants[wiring.nodes[i].input[1]])) for i in quantizers
    }
    return tuple(name for name in node.input if name in pairs) if own == steps else ()


def _weight(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> NDArray[np.float32]:
    """Return a node's weights, output channels first."""
    weight: NDArray[np.float32] = numpy_helper.to_array(constants[node.input[1]])
    return np.moveaxis(weight, channel_axis(node, weight.ndim), 0)
