"""Facts of an ONNX file: weights, operations, size, precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from edgedetr.graph.checksum import model_sha256
from edgedetr.graph.exact import EIGHT_BITS, coarsest_precision
from edgedetr.graph.macs import macs
from edgedetr.graph.model_file import load_onnx

if TYPE_CHECKING:
    from pathlib import Path

_REAL_NUMBERS: dict[int, str] = {
    onnx.TensorProto.FLOAT: "fp32",
    onnx.TensorProto.DOUBLE: "fp64",
    onnx.TensorProto.FLOAT16: "fp16",
    onnx.TensorProto.BFLOAT16: "bf16",
}


@dataclass(frozen=True)
class ModelFacts:
    """Figures of a model that need no frame; `edgedetr.bench.report.contents` has their units."""

    sha256: str
    precision: str
    params_m: float
    gflops: float
    file_mib: float


def model_facts(path: Path) -> ModelFacts:
    """Read them from an ONNX file.

    Raises:
        ArtifactError: If the file is damaged or its shapes cannot be found.
    """
    model = load_onnx(path)
    return ModelFacts(
        sha256=model_sha256(path),
        precision=stored_precision(model),
        params_m=count_weights(model) / 1e6,
        gflops=2 * sum(macs(model).values()) / 1e9,
        file_mib=path.stat().st_size / 2**20,
    )


def count_weights(model: onnx.ModelProto) -> int:
    """Count the numbers that a model has stored to compute with.

    These are the elements of every floating-point initializer, and of every integer one that is
    dequantized; the scales and zero points of quantization are not counted, so that an INT8 model
    has as many as the FP32 model that it came from. Batch norms that the exporter folded into
    convolutions have gone, anchors and position codes that it made constant are in.
    """
    quantizing = [
        n for n in model.graph.node if n.op_type in {"QuantizeLinear", "DequantizeLinear"}
    ]
    scales = {name for node in quantizing for name in node.input[1:]}
    stored = {n.input[0] for n in quantizing if n.op_type == "DequantizeLinear"}
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.name not in scales
        and (tensor.data_type in _REAL_NUMBERS or tensor.name in stored)
    )


def stored_precision(model: onnx.ModelProto) -> str:
    """Name the number format: of what is quantized if anything is, else that of most weights."""
    found = coarsest_precision(model)
    if found in EIGHT_BITS:
        return found
    sizes: dict[str, int] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type in _REAL_NUMBERS:
            name = _REAL_NUMBERS[tensor.data_type]
            sizes[name] = sizes.get(name, 0) + math.prod(tensor.dims)
    return max(sizes, key=lambda name: sizes[name], default="fp32")
