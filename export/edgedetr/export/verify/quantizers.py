"""Check the scales and weights of an INT8 or FP8 graph, quantizer by quantizer.

A wrong scale or swapped weights may cost few detections on some frames, and are a small part of the
error of a block of many layers. Here each quantizer is judged by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, numpy_helper

from edgedetr.export.verify.figures import counted
from edgedetr.export.verify.taps import activations, parts, tapped
from edgedetr.graph.exact import EIGHT_BITS
from edgedetr.graph.fp8 import FP8, MOST, fp8_steps, to_fp8
from edgedetr.graph.wiring import Wiring, label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx

    from edgedetr.export.verify.taps import Values
    from edgedetr.graph.exact import ExactGraph

FRAMES = 16
"""Frames that quantizers are judged on, as they come: not the ones with the worst detections, which
clip more. Of three frames the median of a good quantizer reaches 6 now and then, of these 0.8."""
CLIPPED = 8.0
"""How many times as large as its rounding error the clipping error of a quantizer may be, in the
median of the frames. In a calibrated range both are about as large; in half of it clipping costs 27
times as much or more."""
NOTHING = 1e-6
"""Energy of a tensor's error, relative to that of the tensor, that counts as none."""
OFF = 0.5
"""The share of a channel's weights that may be off by more than a step; rounding makes half a
step."""


@dataclass(frozen=True)
class _Quantizer:
    """One pair of scale and zero point, of a tensor as a whole."""

    scale: float
    zero: int
    low: int
    high: int
    is_float: bool = False

    def clipped_by_rounded(self, values: np.ndarray) -> float:
        """Return the squared clipping error of a tensor, relative to its squared rounding error."""
        exact = values.astype(np.float64)
        if self.is_float:
            return _share_of(*self._fp8_errors(exact), exact)
        steps = np.rint(exact / self.scale) + self.zero
        errors = np.square((np.clip(steps, self.low, self.high) - self.zero) * self.scale - exact)
        beyond = (steps < self.low) | (steps > self.high)
        return _share_of(errors, beyond, exact)

    def _fp8_errors(self, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared errors of FP8, and where values are clipped."""
        steps = exact / self.scale
        rounded = to_fp8(steps.astype(np.float32)).astype(np.float64) * self.scale
        return np.square(rounded - exact), np.abs(steps) > MOST


def _share_of(errors: np.ndarray, beyond: np.ndarray, exact: np.ndarray) -> float:
    """Return the sum of the errors of clipped values, relative to that of the others."""
    floor = NOTHING * float(np.square(exact).sum())
    return float(errors[beyond].sum()) / (float(errors[~beyond].sum()) + floor or 1.0)


def quantizer_faults(
    reference: ExactGraph, candidate: ExactGraph, feeds: Sequence[Values]
) -> tuple[str, ...]:
    """Find the quantizers of a candidate that no calibration of its reference gives.

    Args:
        reference: The graph before quantization.
        candidate: The graph with Q/DQ pairs.
        feeds: The inputs of the candidate, frame by frame.

    Returns:
        A sentence for each fault; empty where the candidate has none or the reference has.
    """
    if candidate.precision not in EIGHT_BITS or reference.precision in EIGHT_BITS:
        return ()
    kind = candidate.precision.upper()
    return (
        *_narrow_ranges(candidate.model, feeds, kind),
        *_foreign_weights(reference.model, candidate.model, kind),
    )


def _narrow_ranges(model: onnx.ModelProto, feeds: Sequence[Values], kind: str) -> Iterator[str]:
    """Name the activations whose range is far too narrow for their values."""
    quantizers = _activation_quantizers(model)
    known = activations(model)
    for part in parts(known[name] for name in quantizers if name in known):
        ratios = [
            [quantizers[name].clipped_by_rounded(values[name]) for name in part]
            for values in tapped(model, part, feeds, "the candidate")
        ]
        for name, ratio in zip(part, np.median(ratios, axis=0).tolist(), strict=True):
            if ratio > CLIPPED:
                yield (
                    f"the {kind} range at {known[name].node} is too narrow: its clipping error is "
                    f"{ratio:.3g} times its rounding error, wanted at most {CLIPPED:g}"
                )


def _activation_quantizers(model: onnx.ModelProto) -> dict[str, _Quantizer]:
    """Return the per-tensor quantizers, by the name of the activation."""
    constants = Wiring(model.graph).constants
    found = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in constants:
            continue
        parameters = [numpy_helper.to_array(constants[n]) for n in node.input[1:] if n in constants]
        if len(parameters) != 2 or parameters[0].size != 1:
            continue
        scale, zero = parameters
        if zero.dtype == FP8:
            found[node.input[0]] = _Quantizer(float(scale.item()), 0, 0, 0, is_float=True)
            continue
        bounds = np.iinfo(zero.dtype)
        found[node.input[0]] = _Quantizer(
            float(scale.item()), int(zero.item()), bounds.min, bounds.max
        )
    return found


def _foreign_weights(
    reference: onnx.ModelProto, candidate: onnx.ModelProto, kind: str
) -> Iterator[str]:
    """Name the layers whose quantized weights are not those of the reference, rounded."""
    own, other = Wiring(candidate.graph), Wiring(reference.graph)
    twins = {label(node): node for node in other.nodes}
    for node in own.nodes:
        twin = twins.get(label(node))
        if twin is None or twin.op_type != node.op_type:
            continue
        for name, original in zip(node.input, twin.input, strict=False):
            source = _dequantizer(name, own)
            if source is None or original not in other.constants:
                continue
            off = _channels_off(source, own, numpy_helper.to_array(other.constants[original]))
            if off:
                yield (
                    f"the {kind} weights of {label(node)} are not the rounded weights of the "
                    f"reference: {counted(off, 'channel')} off"
                )


def _dequantizer(name: str, wiring: Wiring) -> onnx.NodeProto | None:
    """Return the node that dequantizes a constant, also where a Cast follows it."""
    source = wiring.source(name)
    if source is None or source.op_type != "DequantizeLinear":
        return None
    return source if source.input[0] in wiring.constants else None


def _channels_off(node: onnx.NodeProto, wiring: Wiring, weights: np.ndarray) -> int:
    """Count the channels of which most weights are off by more than a step."""
    values, scale, *zero = (
        numpy_helper.to_array(wiring.constants[name]).astype(np.float64) for name in node.input
    )
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1) if scale.size > 1 else 0
    wide = [1] * values.ndim
    wide[axis] = -1
    steps = scales = scale.reshape(wide) if scale.size > 1 else scale.reshape(())
    offset = zero[0].reshape(wide if zero[0].size > 1 else ()) if zero else 0.0
    if values.shape != weights.shape:
        return int(values.shape[axis])
    if wiring.constants[node.input[0]].data_type == TensorProto.FLOAT8E4M3FN:
        steps = steps * fp8_steps(weights / steps)
    off = np.abs((values - offset) * scales - weights) > steps
    return int((off.mean(tuple(i for i in range(values.ndim) if i != axis)) > OFF).sum())
