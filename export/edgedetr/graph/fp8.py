"""FP8 as every stage rounds to it: E4M3, symmetric, with one scale for each output channel.

``x ~ scale * fp8(clip(x / scale, -448, 448))`` with ``scale = amax / 448``, as TensorRT and ONNX
have it: E4M3 has 3 bits of mantissa, no infinity, and 448 is its largest number. A number is off by
at most a sixteenth of itself, however small it is beside amax, down to the smallest normal number.
So the scale takes all that calibration saw: clipping gains nothing, as it does in INT8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 448.0
"""The largest number."""

MOST_STEP = 32.0
"""The distance from it to the number before it."""

SMALLEST = 2.0**-9
"""The smallest one above 0, the step of all below `SMALLEST_NORMAL`."""

SMALLEST_NORMAL = 2.0**-6
"""The smallest one of full precision."""

LEAST_SCALE = 2.0**-14
"""The smallest normal number of FP16: a typed FP16 graph holds scales from here up as they are."""

FP8: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)
"""The type of numpy arrays."""

OLDEST_FP8 = "8.9"
"""The compute capability from which GPUs multiply it: Ada, Hopper, Blackwell and Thor; Orin has 8.7
and does not."""

FP8_OPSET = 19
"""The first opset whose Q and DQ take it."""

_MANTISSA = 3


def fp8_scale(amax: float) -> float:
    """Return the scale at which the largest number stands for amax; never below `LEAST_SCALE`."""
    return max(amax / MOST, LEAST_SCALE)


def to_fp8(values: NDArray[np.float32]) -> NDArray[Any]:
    """Clip to the range of FP8 and round to its nearest number, halves to the even one."""
    return np.clip(values, -MOST, MOST).astype(np.float32).astype(FP8)


def fp8_weights(values: NDArray[np.float32], axis: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Round weights to FP8 with one scale for each output channel.

    Args:
        values: The weights.
        axis: The axis that counts the output channels, see `edgedetr.graph.int8.channel_axis`.

    Returns:
        The FP8 weights, like ``values``, and the scales (C,).
    """
    amax = np.abs(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)).max(1)
    scales = np.array([fp8_scale(float(a)) for a in amax], np.float32)
    wide = scales.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    return to_fp8(values / wide), scales


def fp8_steps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of the two numbers of FP8 between which each value lies.

    That of the largest numbers for values beyond `MOST`.
    """
    size = np.clip(np.abs(values), SMALLEST_NORMAL, MOST)
    return np.asarray(np.exp2(np.floor(np.log2(size)) - _MANTISSA))
