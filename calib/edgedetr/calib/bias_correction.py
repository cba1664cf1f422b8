"""Measure by how much INT8, or FP8, shifts the mean of each output channel, layer after layer.

A layer's shift is measured where those before it are corrected already. So the float32 graph gives
the mean of each channel on a frame, and the rounded graph sets the result of each layer to that
mean before the next one reads it. One pass over the frames does for all layers, and memory does not
depend on their number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedetr.calib.fp8_placement import default_fp8_points
from edgedetr.calib.frames import choose_frames
from edgedetr.calib.placement import Point, default_points, points
from edgedetr.calib.rounding import roundings
from edgedetr.calib.targets import TARGETS, scheme_of
from edgedetr.graph.exact import exact_session
from edgedetr.graph.fp8 import FP8_OPSET
from edgedetr.graph.int8 import channel_axis, rounded_weights
from edgedetr.graph.requirements import opset_of, raise_opset
from edgedetr.graph.wiring import Wiring, replace_items
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.images import read_image
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedetr.calib.rounding import Rounding
    from edgedetr.calib.stats import TensorRange
    from edgedetr.calib.targets import EightBit, Target
    from edgedetr.runtime.spec import ModelSpec

    Means = dict[str, NDArray[np.float32]]

FRAMES = 24
"""Frames on which shifts are measured at most. Means need fewer than ranges, and four schemes of
rounding run on each: of 128 frames the whole calibration takes less than twice its ranges."""

_AXES_ARE_INPUTS = 18
_DIGITS = 7


def mean_shifts(
    model: onnx.ModelProto,
    ranges: Sequence[TensorRange],
    spec: ModelSpec,
    images: Sequence[Path],
    batch: int = 1,
) -> dict[str, dict[str, list[float]]]:
    """Measure the shifts of each scheme of rounding.

    Args:
        model: The float32 model.
        ranges: Those of its activations.
        spec: How to feed it.
        images: The frames that it was calibrated on.
        batch: Its batch, filled with one frame.

    Returns:
        Scheme to the result of each layer to what its channels lack in the mean.
    """
    simulations = _simulations(model, ranges)
    wanted = {name: rank for s in simulations for name, rank in s.layers.items()}
    if not wanted:
        return {}
    averaging = exact_session(_averaging(model, wanted), "the model")
    preprocess = Preprocessor(spec)
    feed = np.empty((batch, 3, *spec.input_hw), np.float32)
    for path in choose_frames(images, FRAMES):
        preprocess(read_image(path), feed[0])
        feed[1:] = feed[0]
        values = averaging.run([_mean(name) for name in wanted], {spec.input_name: feed})
        means = dict(zip(wanted, values, strict=True))
        for simulation in simulations:
            simulation.add(spec.input_name, feed, means)
    return {scheme_of(s.target, s.precision): s.shifts() for s in simulations}


def _simulations(model: onnx.ModelProto, ranges: Sequence[TensorRange]) -> list[_Simulation]:
    """Make the rounded graphs; none of FP8 where ONNX cannot convert the model to its opset."""
    found = [_Simulation(model, ranges, target, "int8") for target in TARGETS]
    try:
        newer = raise_opset(model, FP8_OPSET)
    except ArtifactError:
        return found  # and export qdq --precision fp8 says why
    return [*found, _Simulation(newer, ranges, "tensorrt", "fp8")]


class _Simulation:
    """A rounded graph, and the shifts of its layers so far.

    Attributes:
        target: What it rounds for.
        precision: To which format.
        layers: The result of each INT8 layer to the operator that makes it.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        ranges: Sequence[TensorRange],
        target: Target,
        precision: EightBit,
    ) -> None:
        self.target, self.precision = target, precision
        rounded = onnx.ModelProto()
        rounded.CopyFrom(model)
        wiring = Wiring(rounded.graph)
        eligible = points(wiring, target)
        chosen = (
            default_fp8_points(eligible, wiring)
            if precision == "fp8"
            else default_points(eligible, target)
        )
        results = {p.index: str(wiring.nodes[p.index].output[0]) for p in chosen}
        self.layers = {name: wiring.nodes[i].op_type for i, name in results.items()}
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._frames = 0
        if chosen:
            _round(rounded, wiring, chosen, roundings(wiring, chosen, ranges, target, precision))
            self._session = exact_session(rounded, "the model")

    def add(self, name: str, images: NDArray[np.float32], means: Means) -> None:
        """Run on a batch, fed as the input ``name``, whose float32 means are given."""
        if not self.layers:
            return
        given = {_wanted(layer): means[layer] for layer in self.layers}
        shifts = self._session.run([_shift(n) for n in self.layers], {name: images, **given})
        self._frames += 1
        for layer, shift in zip(self.layers, shifts, strict=True):
            self._sums[layer] = self._sums.get(layer, 0.0) + shift.reshape(-1).astype(np.float64)

    def shifts(self) -> dict[str, list[float]]:
        """Return the mean over the frames."""
        return {
            layer: [float(f"{v:.{_DIGITS}g}") for v in total / self._frames]
            for layer, total in self._sums.items()
        }


def _round(
    model: onnx.ModelProto,
    wiring: Wiring,
    chosen: Sequence[Point],
    rounded: Mapping[str, Rounding],
) -> None:
    """Round what the chosen layers read, and set the mean of their results."""
    graph = model.graph
    pairs = {}
    for number, (name, plan) in enumerate(rounded.items()):
        stem = f"rounded::{number}"
        _store(graph, f"{stem}::scale", np.float32(plan.grid.scale))
        _store(graph, f"{stem}::zero", plan.grid.zero_point)
        inputs = [f"{stem}::scale", f"{stem}::zero"]
        pairs[name] = [
            helper.make_node("QuantizeLinear", [name, *inputs], [f"{stem}::steps"]),
            helper.make_node("DequantizeLinear", [f"{stem}::steps", *inputs], [stem]),
        ]
        for index in plan.readers:
            node = wiring.nodes[index]
            inputs_of = [stem if n == name else n for n in node.input]
            del node.input[:]
            node.input.extend(inputs_of)
    centred = {
        p.index: _centred(model, wiring, p, is_fp8=rounded[p.tensor].grid.is_float) for p in chosen
    }
    ordered = [n for name in wiring.inputs for n in pairs.get(name, ())]
    for index, node in enumerate(wiring.nodes):
        ordered += [node, *centred.get(index, ())]
        ordered += [
            n for name in (*node.output, *_results(centred, index)) for n in pairs.get(name, ())
        ]
    replace_items(graph.node, ordered)


def _results(centred: dict[int, list[onnx.NodeProto]], index: int) -> list[str]:
    return [name for node in centred.get(index, ()) for name in node.output]


def _centred(
    model: onnx.ModelProto, wiring: Wiring, point: Point, *, is_fp8: bool
) -> list[onnx.NodeProto]:
    """Round a layer's weights, and make the nodes that set the mean of its result."""
    node, graph = wiring.nodes[point.index], model.graph
    values = numpy_helper.to_array(wiring.constants[point.weight])
    axis = channel_axis(node, values.ndim)
    result = str(node.output[0])
    node.input[1] = f"{result}::weights"
    _store(graph, node.input[1], rounded_weights(values, axis, is_fp8=is_fp8))
    node.output[0] = f"{result}::raw"
    graph.input.append(helper.make_tensor_value_info(_wanted(result), onnx.TensorProto.FLOAT, None))
    graph.output.append(helper.make_tensor_value_info(_shift(result), onnx.TensorProto.FLOAT, None))
    return [
        *_mean_nodes(model, node.op_type, node.output[0], f"{result}::mean"),
        helper.make_node("Sub", [_wanted(result), f"{result}::mean"], [_shift(result)]),
        helper.make_node("Add", [node.output[0], _shift(result)], [result]),
    ]


def _averaging(model: onnx.ModelProto, wanted: dict[str, str]) -> onnx.ModelProto:
    """Return a graph whose outputs are the means of the channels of these tensors."""
    averaging = onnx.ModelProto()
    averaging.CopyFrom(model)
    graph = averaging.graph
    nodes = []
    del graph.output[:]
    for node in model.graph.node:
        nodes.append(node)
        for name in (n for n in node.output if n in wanted):
            nodes += _mean_nodes(averaging, wanted[name], name, _mean(name))
            graph.output.append(
                helper.make_tensor_value_info(_mean(name), onnx.TensorProto.FLOAT, None)
            )
    replace_items(graph.node, nodes)
    return averaging


def _mean_nodes(
    model: onnx.ModelProto, kind: str, source: str, target: str
) -> list[onnx.NodeProto]:
    """Make the nodes that average a layer's result over all but its channels.

    They are the second axis of a convolution's result, and the last of a linear layer's.
    """
    if kind == "Conv":
        return [_reduce(model, source, target, [0, 2, 3])]
    name = f"{target}::rows"
    _store(model.graph, f"{name}::axis", np.array([-1], np.int64))
    return [
        helper.make_node("Shape", [source], [f"{name}::shape"]),
        helper.make_node("Gather", [f"{name}::shape", f"{name}::axis"], [f"{name}::width"]),
        helper.make_node("Concat", [f"{name}::axis", f"{name}::width"], [f"{name}::to"], axis=0),
        helper.make_node("Reshape", [source, f"{name}::to"], [name]),
        _reduce(model, name, target, [0]),
    ]


def _reduce(model: onnx.ModelProto, source: str, target: str, axes: list[int]) -> onnx.NodeProto:
    if opset_of(model) < _AXES_ARE_INPUTS:
        return helper.make_node("ReduceMean", [source], [target], axes=axes, keepdims=1)
    _store(model.graph, f"{target}::axes", np.array(axes, np.int64))
    return helper.make_node("ReduceMean", [source, f"{target}::axes"], [target], keepdims=1)


def _store(graph: onnx.GraphProto, name: str, values: NDArray[np.generic] | np.generic) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def _wanted(result: str) -> str:
    return f"{result}::wanted"


def _mean(result: str) -> str:
    return f"{result}::mean"


def _shift(result: str) -> str:
    return f"{result}::shift"
