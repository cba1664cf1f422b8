"""INT8 as every stage rounds to it: weights symmetric, with one scale for each output channel.

``x ~ scale * clip(round(x / scale), -127, 127)`` with ``scale = amax / 127``. So are activations
for TensorRT; for CPUs ``x ~ scale * (clip(round(x / scale) + zero, 0, 255) - zero)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.graph.fp8 import FP8, fp8_weights

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

LEVELS = 127
"""How many steps an INT8 number has on either side of zero."""

STEPS = 255
"""How many steps lie between the two ends of uint8."""

SMALLEST_STEP = 2.0**-24
"""The smallest number of FP16; no step is smaller."""


@dataclass(frozen=True)
class Grid:
    """The numbers to which an activation is rounded.

    Attributes:
        scale: The value of one step.
        zero: The step that stands for 0.
        is_signed: Whether steps are int8, and not uint8.
        is_float: Whether they are FP8 instead, which knows no zero but 0.
    """

    scale: float
    zero: int = 0
    is_signed: bool = True
    is_float: bool = False

    @property
    def kind(self) -> str:
        """The type of the steps."""
        return "fp8" if self.is_float else "int8" if self.is_signed else "uint8"

    @property
    def zero_point(self) -> np.generic | NDArray[Any]:
        """The zero point, of the type of the steps."""
        if self.is_float:
            return np.zeros((), FP8)
        return np.int8(self.zero) if self.is_signed else np.uint8(self.zero)


def asymmetric_grid(low: float, high: float) -> Grid:
    """Return the uint8 grid from ``low`` to ``high``; 0, which padding adds, is always on it."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / STEPS
    return Grid(scale, round(-low / scale), False) if scale > SMALLEST_STEP else Grid(1.0, 0, False)


def scale_from_amax(amax: float) -> float:
    """Return the value of one INT8 step; 1 for a tensor that was never anything but 0.

    A step below the smallest FP16 number counts as 0: in a typed FP16 graph it would become 0, and
    TensorRT takes positive scales only.
    """
    return amax / LEVELS if amax / LEVELS > SMALLEST_STEP else 1.0


def channel_axis(node: onnx.NodeProto, rank: int) -> int:
    """Return the axis of a layer's weights that counts the output channels.

    Args:
        node: One of `edgedetr.graph.wiring.LAYERS`.
        rank: How many axes the weights have.
    """
    if node.op_type == "MatMul":
        return rank - 1
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return {"Conv": 0, "ConvTranspose": 1}[node.op_type]


def quantized_weights(
    values: NDArray[np.float32],
    axis: int,
    least: NDArray[np.float32] | None = None,
    scales: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round weights to INT8 with one scale for each output channel.

    A channel of zeros gets the finest of the others' scales: ONNX Runtime rounds its bias to
    multiples of it.

    Args:
        values: The weights.
        axis: The axis that counts the output channels, see `channel_axis`.
        least: The smallest scale of each channel (C,), see `least_scales`.
        scales: The scale of each channel (C,), where it is known; else that of its largest weight.

    Returns:
        The INT8 weights, like ``values``, and the scales (C,).
    """
    scales = _scales(values, axis) if scales is None else scales
    if least is not None:
        scales = np.maximum(scales, least)
    steps = _beside(scales, values, axis)
    return np.rint(values / steps).clip(-LEVELS, LEVELS).astype(np.int8), scales


def _scales(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return the scale at which 127 stands for the largest weight of each channel."""
    amax = np.abs(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)).max(1)
    scales = np.array([scale_from_amax(float(a)) for a in amax], np.float32)
    alive = amax / LEVELS > SMALLEST_STEP
    if alive.any():
        scales[~alive] = scales[alive].min()
    return scales


def least_scales(bias: NDArray[np.float32], input_scale: float) -> NDArray[np.float32]:
    """Return the smallest scale of each channel's weights at which its bias fits in 32 bits.

    INT8 kernels add the bias to sums of products, whose step is the input's times the weights'.
    ONNX Runtime does not check it: a larger bias wraps around. Half the range is left to the sums.

    Args:
        bias: Of each output channel (C,).
        input_scale: The step of what the layer reads.
    """
    return (np.abs(bias.astype(np.float64)) / (input_scale * 2.0**30)).astype(np.float32)


def dequantized(
    values: NDArray[Any], scales: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    """Return what INT8 or FP8 weights stand for; takes what `quantized_weights` returns."""
    return values.astype(np.float32) * _beside(scales, values, axis)


def rounded_weights(
    values: NDArray[np.float32], axis: int, *, is_fp8: bool = False
) -> NDArray[np.float32]:
    """Return what is left of weights that are rounded to INT8, or FP8, channel by channel."""
    if is_fp8:
        numbers, scales = fp8_weights(values, axis)
        return dequantized(numbers, scales, axis)
    steps, scales = quantized_weights(values, axis)
    return dequantized(steps, scales, axis)


def _beside(
    scales: NDArray[np.float32], values: NDArray[np.generic], axis: int
) -> NDArray[np.float32]:
    """Shape the scales of channels so that they broadcast over the weights."""
    return scales.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
