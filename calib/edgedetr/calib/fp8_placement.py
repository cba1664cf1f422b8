"""Where FP8 pays in TensorRT: among the places of INT8, those with a kernel for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgedetr.calib.placement import default_points

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

    from edgedetr.calib.placement import Point
    from edgedetr.graph.wiring import Wiring

CHANNEL_STEP = 16
"""TensorRT's FP8 convolutions take multiples of as many channels; as few are slower than in FP16,
and NVIDIA's Model Optimizer leaves them float."""

MOST_TAPS = 32
"""Places of a kernel beyond which there is no FP8 convolution: 5x5 has one, 7x7 has none."""


def default_fp8_points(eligible: Iterable[Point], wiring: Wiring) -> list[Point]:
    """Pick what is in FP8 unless it is told otherwise.

    That is what TensorRT has in INT8 (see `edgedetr.calib.placement.default_points`), less the
    convolutions for which it has no optimized FP8 kernel: those of groups, of few channels or of
    large kernels.
    """
    return [
        point
        for point in default_points(eligible)
        if _fills_kernel(wiring.nodes[point.index], wiring.constants[point.weight].dims)
    ]


def _fills_kernel(node: onnx.NodeProto, dims: Iterable[int]) -> bool:
    """Tell whether a convolution with weights of these dimensions has an FP8 kernel."""
    outputs, inputs, *kernel = dims
    if any(a.name == "group" and a.i > 1 for a in node.attribute):
        return False
    channels = (inputs, outputs)
    fills = all(c > CHANNEL_STEP and c % CHANNEL_STEP == 0 for c in channels)
    return fills and math.prod(kernel) <= MOST_TAPS
