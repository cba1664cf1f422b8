"""Quantize a calibrated graph: Q/DQ nodes where its target wants them.

Every INT8 node reads ``x -> QuantizeLinear -> DequantizeLinear`` (per tensor) and ``int8 weights ->
DequantizeLinear`` (per output channel); its bias stays float, and builders fuse the four into one
INT8 kernel. By default these are the convolutions of backbone and hybrid encoder, save the first,
which reads the image: eight unsigned bits would lose one of them and there is little to gain.

For TensorRT activations are symmetric int8, and convolutions for which it has no good INT8 kernel
stay float: depthwise ones, and those of few channels. For CPUs activations are uint8 with a zero
point, linear layers are quantized too, and for ONNX Runtime, which fuses a convolution only where
its result is rounded, so are the results.

FP8 is for TensorRT on GPUs that multiply it. Activations and weights are E4M3 with the same pairs;
convolutions without an FP8 kernel stay float.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from onnx import numpy_helper

from edgedetr.calib.fp8_placement import default_fp8_points
from edgedetr.calib.placement import Point, default_points, points
from edgedetr.calib.rounding import roundings
from edgedetr.calib.targets import scheme_of
from edgedetr.export.transforms.biases import shift_biases
from edgedetr.export.transforms.halve import HalfShare, halve
from edgedetr.export.transforms.node_names import matching
from edgedetr.export.transforms.qdq_nodes import NodeMaker
from edgedetr.graph.exact import coarsest_precision
from edgedetr.graph.fp8 import FP8_OPSET
from edgedetr.graph.int8 import channel_axis, least_scales
from edgedetr.graph.macs import int8_macs, macs
from edgedetr.graph.requirements import opset_of, raise_opset
from edgedetr.graph.wiring import Wiring, label, reads, replace_items
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from edgedetr.calib.rounding import Rounding
    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.calib.targets import EightBit, Target
    from edgedetr.graph.exact import Precision

Rest = Literal["fp16", "fp32"]
"""What computes where INT8 does not."""

TYPED_OPSET = 19
"""The first opset whose Q and DQ take FP16, and the last whose GridSample TensorRT reads."""

_MIN_OPSET = 13


@dataclass(frozen=True)
class QuantizedShare:
    """How much of a model runs in INT8, or in FP8.

    Attributes:
        nodes: Convolutions and linear layers in it.
        convolutions: All convolutions of the model.
        int8_macs: Multiply-accumulates of the former, for one batch.
        macs: Multiply-accumulates of the model.
        rest: What of it runs in FP16; None where the rest is FP32.
        precision: ``int8`` or ``fp8``.
    """

    nodes: int
    convolutions: int
    int8_macs: int
    macs: int
    rest: HalfShare | None = None
    precision: Precision = "int8"

    def describe(self) -> str:
        """Return a one-line summary."""
        share = self.int8_macs / self.macs
        rest = f"; the rest FP16, in FP32 {self.rest.in_fp32()}" if self.rest else ""
        return (
            f"{counted(self.nodes, 'node')} in {self.precision.upper()} of "
            f"{counted(self.convolutions, 'convolution')}; "
            f"{share:.1%} of {self.macs / 1e9:.3f} GMACs{rest}"
        )


def rest_of(target: Target) -> Rest:
    """Return what computes where INT8 does not, unless it is said: CPUs are slow in FP16."""
    return "fp16" if target == "tensorrt" else "fp32"


def quantize(
    model: onnx.ModelProto,
    stats: CalibrationStats,
    include: str = "",
    exclude: str = "",
    target: Target = "tensorrt",
    precision: EightBit = "int8",
) -> onnx.ModelProto:
    """Return a copy of a float32 model that computes its convolutions in INT8, or in FP8.

    One pair of Q and DQ serves all INT8 readers of a tensor; readers that stay float see it as it
    was. Where a Concat feeds an INT8 node, its inputs are quantized with the one scale of its
    output. Where an INT8 convolution can absorb the addition behind it, the other side, the skip,
    is quantized. Biases take back what INT8 shifts the mean of their channel by, where calibration
    measured it.

    Args:
        model: The model; it is left as it is.
        stats: Its ranges.
        include: A regular expression; eligible nodes (see `edgedetr.calib.placement`) whose scope
            it finds are quantized beside the default ones.
        exclude: A regular expression; nodes whose scope it finds stay float.
        target: What the graph is for.
        precision: ``fp8`` only where the target is TensorRT; the graph is of opset 19 then.

    Raises:
        ArtifactError: If the model is quantized already or of an opset without per-channel INT8,
            or the stats lack a tensor.
        UsageError: If an expression is none, takes too long or finds no node.
    """
    _check_float(model)
    is_fp8 = precision == "fp8"
    quantized = onnx.ModelProto()
    quantized.CopyFrom(raise_opset(model, FP8_OPSET) if is_fp8 else model)
    wiring = Wiring(quantized.graph)
    eligible = points(wiring, target)
    default = default_fp8_points(eligible, wiring) if is_fp8 else default_points(eligible, target)
    chosen = _choose(eligible, default, include, exclude)
    maker = NodeMaker(quantized.graph)
    plan = roundings(wiring, chosen, stats.ranges, target, precision)
    added = shift_biases(wiring, chosen, _shifts(stats, target, precision), maker)
    pairs = {}
    for name, rounding in plan.items():
        pairs[name] = maker.pair(name, rounding.grid)
        for index in rounding.readers:
            _replace_input(wiring.nodes[index], name, pairs[name][1].output[0])
    weights = _quantize_weights(wiring, chosen, maker, plan, stats.weights)
    ordered = [*weights, *(n for name in wiring.inputs for n in pairs.get(name, ()))]
    for index, node in enumerate(wiring.nodes):
        ordered += [node, *added.get(index, ())]
        ordered += [n for name in (*node.output, *_made(added, index)) for n in pairs.get(name, ())]
    _set_nodes(quantized.graph, ordered)
    onnx.checker.check_model(quantized)
    return quantized


def quantized_share(model: onnx.ModelProto) -> QuantizedShare:
    """Measure how much of a model runs in INT8, or in FP8."""
    inside = int8_macs(model)
    return QuantizedShare(
        nodes=len(inside),
        convolutions=sum(n.op_type == "Conv" for n in model.graph.node),
        int8_macs=sum(inside.values()),
        macs=sum(macs(model).values()),
        precision=coarsest_precision(model),
    )


def with_rest(
    quantized: onnx.ModelProto,
    stats: CalibrationStats,
    rest: Rest,
    frames: Iterable[NDArray[np.uint8]] | None = None,
) -> tuple[onnx.ModelProto, HalfShare | None]:
    """Return a quantized graph whose other nodes compute in ``rest``; takes what `export_qdq` does.

    Raises:
        ArtifactError: If the graph does not run.
    """
    if rest == "fp32":
        return quantized, None
    raised = raise_opset(quantized, TYPED_OPSET)
    return halve(raised, stats.spec, frames, stats.magnitudes)


def _shifts(
    stats: CalibrationStats, target: Target, precision: EightBit
) -> Mapping[str, Sequence[float]]:
    """Return what calibration corrects for a target; those of another would make it worse."""
    scheme = scheme_of(target, precision)
    if stats.shifts and scheme not in stats.shifts:
        wanted = target if precision == "int8" else precision
        raise ArtifactError(
            f"the calibration is of an earlier version and corrects nothing for {wanted}; run: "
            "edgedetr calib collect"
        )
    found: Mapping[str, Sequence[float]] = stats.shifts.get(scheme, {})
    return found


def _check_float(model: onnx.ModelProto) -> None:
    if any("QuantizeLinear" in node.op_type for node in model.graph.node):
        raise ArtifactError("the model is quantized already; start from the float32 one")
    opset = opset_of(model)
    if opset < _MIN_OPSET:
        raise ArtifactError(
            f"the model is of opset {opset}; INT8 for each channel needs {_MIN_OPSET} or later, "
            "export it again"
        )


def _choose(eligible: list[Point], default: list[Point], include: str, exclude: str) -> list[Point]:
    """Pick the nodes to quantize."""
    extra = {*_matching(eligible, "--include", include), *default}
    chosen = [p for p in eligible if p in extra]
    unwanted = _matching(chosen, "--exclude", exclude)
    chosen = [p for p in chosen if p not in unwanted]
    if not chosen:
        raise ArtifactError(
            "the model has no node to quantize ahead of its decoder; depthwise convolutions and "
            "those of few channels need --include"
            if any(p.kind == "conv" and not p.is_first for p in eligible)
            else "the model has no node to quantize ahead of its decoder"
        )
    return chosen


def _matching(candidates: list[Point], option: str, pattern: str) -> set[Point]:
    if not pattern:
        return set()
    hits = matching(pattern, [p.scope for p in candidates], option)
    found = {p for p, hit in zip(candidates, hits, strict=True) if hit}
    if not found:
        raise UsageError(
            f"{option} {pattern!r} finds none of the {len(candidates)} nodes that it may; one is "
            f"called {candidates[-1].scope if candidates else ''!r}"
        )
    return found


def _made(added: dict[int, list[onnx.NodeProto]], index: int) -> list[str]:
    """Name the results of the nodes that were added behind a node."""
    return [name for node in added.get(index, ()) for name in node.output]


def _quantize_weights(
    wiring: Wiring,
    chosen: list[Point],
    maker: NodeMaker,
    plan: Mapping[str, Rounding],
    learnt: Mapping[str, Sequence[float]],
) -> list[onnx.NodeProto]:
    """Let the chosen nodes read INT8 or FP8 weights; nodes that share weights share their DQ."""
    sharing: dict[tuple[str, int], list[Point]] = {}
    for point in chosen:
        rank = len(wiring.constants[point.weight].dims)
        axis = channel_axis(wiring.nodes[point.index], rank)
        sharing.setdefault((point.weight, axis), []).append(point)
    made = []
    for (name, axis), group in sharing.items():
        values = numpy_helper.to_array(wiring.constants[name])
        if plan[group[0].tensor].grid.is_float:
            made.append(maker.fp8_weight(name, values, axis))
        else:
            least = _least(wiring, group, plan, values.shape[axis])
            known = learnt.get(label(wiring.nodes[group[0].index]))
            scales = None if known is None else np.asarray(known, np.float32)
            made.append(maker.weight(name, values, axis, least, scales))
        for point in group:
            _replace_input(wiring.nodes[point.index], name, made[-1].output[0])
    return made


def _least(
    wiring: Wiring, group: list[Point], plan: Mapping[str, Rounding], channels: int
) -> NDArray[np.float32] | None:
    """Return the smallest scales of weights at which the biases of all their nodes fit."""
    limits = [_least_scales(wiring, point, plan[point.tensor].grid.scale) for point in group]
    known = [limit for limit in limits if limit.size == channels]
    return np.max(known, axis=0) if known else None


def _least_scales(wiring: Wiring, point: Point, input_scale: float) -> NDArray[np.float32]:
    """Return `least_scales` of a node; empty where no constant is its bias."""
    node = wiring.nodes[point.index]
    bias = wiring.constants.get(node.input[2]) if len(node.input) > 2 else None
    if bias is None:
        return np.zeros(0, np.float32)
    return least_scales(numpy_helper.to_array(bias).reshape(-1), input_scale)


def _replace_input(node: onnx.NodeProto, old: str, new: str) -> None:
    for position, name in enumerate(node.input):
        if name == old:
            node.input[position] = new


def _set_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Put nodes into a graph and drop the constants that nothing reads any more."""
    alive = list(nodes)
    while True:
        read = {o.name for o in graph.output}.union(*(reads(n) for n in alive))
        nodes = alive
        alive = [
            n
            for n in nodes
            if n.op_type not in ("Constant", "Identity") or not read.isdisjoint(n.output)
        ]
        if len(alive) == len(nodes):
            break
    kept = [t for t in graph.initializer if t.name in read]
    gone = {t.name for t in graph.initializer} - read
    inputs = [i for i in graph.input if i.name not in gone]
    for items, values in ((graph.node, nodes), (graph.initializer, kept), (graph.input, inputs)):
        replace_items(items, values)
