"""Count the types that a network computes in: none that is named FP16, FP8 or INT8 may be FP32."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgedetr.runtime.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAC_LAYERS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM")
"""Layers that carry multiply-accumulates."""

FORMATS = {"FLOAT": "FP32", "HALF": "FP16", "BF16": "BF16", "INT8": "INT8", "FP8": "FP8"}
"""The library's name of a type to ours. Other types, of indices and flags, are not counted."""

COMMANDS = {"INT8": "qdq", "FP8": "qdq --precision fp8", "FP16": "fp16"}
"""What of ``edgedetr export`` makes a model of each type."""

EIGHT_BITS = ("INT8", "FP8")
"""Types of eight bits, which quantizers make."""

PASSED = ("CAST", "SHUFFLE", "IDENTITY", "SQUEEZE", "UNSQUEEZE")
"""Layers between a dequantization and what reads it that change no value."""


@dataclass(frozen=True)
class Precision:
    """How many layers compute in which type.

    Attributes:
        macs: Type to the number of convolutions and matrix products in it. INT8 and FP8 are those
            whose both operands are dequantized from it, which the builder makes one kernel.
        outputs: Type to the number of layers with such an output, constants apart.
        int8: Names of the layers that `macs` counts as INT8 or FP8.
    """

    macs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    int8: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return a one-line summary."""
        return (
            f"{_shares(self.macs)} of {sum(self.macs.values())} convolutions and matrix products; "
            f"{_shares(self.outputs)} of {sum(self.outputs.values())} layers"
        )


def network_precision(network: Any) -> Precision:  # noqa: ANN401
    """Count the types of a parsed, strongly typed network, which the builder must keep to."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    makers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    macs: Counter[str] = Counter()
    outputs: Counter[str] = Counter()
    int8: list[str] = []
    for layer in (made for made in layers if made.num_outputs):  # the condition of an If has none
        kind = layer.get_output(0).dtype.name
        if layer.type.name in MAC_LAYERS:
            quantized = _dequantized_from(layer, makers)
            macs[quantized or FORMATS.get(kind, kind)] += 1
            int8 += [layer.name] if quantized else []
        if kind in FORMATS and layer.type.name != "CONSTANT":
            outputs[FORMATS[kind]] += 1
    return Precision(_sorted(macs), _sorted(outputs), tuple(int8))


def claims(names: Iterable[str], kind: str = "") -> set[str]:
    """Return the types that file names and a manifest's kind promise.

    Args:
        names: File names, for example ``student.int8.onnx``.
        kind: What the manifest of the ONNX file says it is; empty when there is none.

    >>> sorted(claims(["student.int8.onnx", "fast_fp16.engine"]))
    ['FP16', 'INT8']
    >>> claims(["int8bit.onnx"], kind="qdq")
    {'INT8'}
    """
    words = {word for name in names for word in re.split(r"[._-]", name.lower())} | {kind}
    spoken = {"fp16": "FP16", "half": "FP16", "fp8": "FP8", "int8": "INT8", "qdq": "INT8"}
    return {spoken[word] for word in words & spoken.keys()}


def check_claims(claimed: set[str], counts: Mapping[str, int], name: str) -> None:
    """Refuse a graph or engine that has nothing of a type that its name promises.

    Args:
        claimed: What `claims` found.
        counts: Type to a number of layers.
        name: What to call it.

    Raises:
        GateError: If a type that is claimed is missing.
    """
    missing = sorted(claimed - counts.keys())
    if missing:
        command = next((COMMANDS[kind] for kind in COMMANDS if kind in missing), "")
        raise GateError(
            f"{name} is named {' and '.join(missing)} and has none: it computes in "
            f"{_shares(counts) or 'nothing'}; make it with edgedetr export {command}, or rename it"
        )


def _dequantized_from(layer: Any, makers: Mapping[str, Any]) -> str:  # noqa: ANN401
    """Return the type from which both operands of a product are dequantized; empty for none."""
    operands = [layer.get_input(i) for i in range(min(2, layer.num_inputs))]
    kinds = {_stored_as(tensor, makers) for tensor in operands}
    return kinds.pop() if len(operands) == 2 and len(kinds) == 1 else ""


def _stored_as(tensor: Any, makers: Mapping[str, Any]) -> str:  # noqa: ANN401
    """Return ``INT8`` or ``FP8`` of a dequantized tensor, and nothing of another."""
    while tensor is not None and tensor.name in makers:
        maker = makers[tensor.name]
        tensor = maker.get_input(0)
        if maker.type.name == "DEQUANTIZE":
            return tensor.dtype.name if tensor.dtype.name in EIGHT_BITS else ""
        if maker.type.name not in PASSED:
            return ""
    return ""


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _shares(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
