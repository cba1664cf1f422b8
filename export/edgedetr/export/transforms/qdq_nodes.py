"""Make Q and DQ nodes, and INT8 weights, for a graph that is being quantized."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from onnx import helper, numpy_helper

from edgedetr.graph.int8 import quantized_weights

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


class NodeMaker:
    """Makes Q and DQ nodes, and the constants that they read, under names that are free."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._taken = {t.name for t in (*graph.initializer, *graph.input)}
        self._taken.update(name for node in graph.node for name in node.output)
        self._zero = ""

    def pair(self, tensor: str, scale: float) -> tuple[onnx.NodeProto, onnx.NodeProto]:
        """Make the Q and the DQ of an activation."""
        self._zero = self._zero or self._constant("int8_zero_point", np.int8(0))
        constants = [self._constant(f"{tensor}_scale", np.float32(scale)), self._zero]
        integer, real = self._name(f"{tensor}_quantized"), self._name(f"{tensor}_dequantized")
        return (
            helper.make_node("QuantizeLinear", [tensor, *constants], [integer], f"{integer}_Q"),
            helper.make_node("DequantizeLinear", [integer, *constants], [real], f"{real}_DQ"),
        )

    def weight(
        self, name: str, values: NDArray[np.float32], axis: int, least: NDArray[np.float32] | None
    ) -> onnx.NodeProto:
        """Store weights as INT8, symmetric for each output channel, and make their DQ."""
        rounded, scales = quantized_weights(values, axis, least)
        inputs = [
            self._constant(f"{name}_quantized", rounded),
            self._constant(f"{name}_scale", scales),
            self._constant(f"{name}_zero_point", np.zeros(scales.shape, np.int8)),
        ]
        real = self._name(f"{name}_dequantized")
        return helper.make_node("DequantizeLinear", inputs, [real], f"{real}_DQ", axis=axis)

    def _constant(self, name: str, values: NDArray[np.generic] | np.generic) -> str:
        name = self._name(name)
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _name(self, wanted: str) -> str:
        name = wanted
        for number in count(2):
            if name not in self._taken:
                break
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name
