"""What INT8 is for: each target wants another graph of the same model."""

from __future__ import annotations

from typing import Literal, get_args

Target = Literal["tensorrt", "openvino", "onnxruntime"]
"""TensorRT rounds activations symmetrically to int8, CPUs to uint8 with a zero point."""

TARGETS: tuple[Target, ...] = get_args(Target)

Scheme = Literal["int8", "uint8", "uint8_inputs", "fp8"]
"""The type of rounded activations; where only what a layer reads is rounded, that, too."""

EightBit = Literal["int8", "fp8"]
"""The two formats of eight bits; FP8 is for TensorRT alone."""

EIGHT_BITS: tuple[str, ...] = get_args(EightBit)


def scheme_of(target: Target, precision: EightBit = "int8") -> Scheme:
    """Return how activations are rounded for a target; see `edgedetr.calib.rounding`."""
    if precision == "fp8":
        return "fp8"
    schemes: dict[Target, Scheme] = {
        "tensorrt": "int8",
        "onnxruntime": "uint8",
        "openvino": "uint8_inputs",
    }
    return schemes[target]
