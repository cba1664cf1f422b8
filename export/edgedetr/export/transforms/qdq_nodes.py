"""Make Q and DQ nodes, and INT8 or FP8 weights, for a graph that is being quantized."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from edgedetr.graph.fp8 import fp8_weights
from edgedetr.graph.int8 import quantized_weights

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from edgedetr.graph.int8 import Grid


class NodeMaker:
    """Makes Q and DQ nodes, and the constants that they read, under names that are free."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._taken = {t.name for t in (*graph.initializer, *graph.input)}
        self._taken.update(name for node in graph.node for name in node.output)
        self._zeros: dict[Grid, str] = {}

    def pair(self, tensor: str, grid: Grid) -> tuple[onnx.NodeProto, onnx.NodeProto]:
        """Make the Q and the DQ of an activation."""
        same = replace(grid, scale=1.0)
        if same not in self._zeros:
            kind = f"{grid.kind}_{grid.zero}" if grid.zero or not grid.is_signed else grid.kind
            self._zeros[same] = self.constant(f"{kind}_zero_point", grid.zero_point)
        constants = [self.constant(f"{tensor}_scale", np.float32(grid.scale)), self._zeros[same]]
        integer, real = self.name(f"{tensor}_quantized"), self.name(f"{tensor}_dequantized")
        return (
            helper.make_node("QuantizeLinear", [tensor, *constants], [integer], f"{integer}_Q"),
            helper.make_node("DequantizeLinear", [integer, *constants], [real], f"{real}_DQ"),
        )

    def weight(
        self,
        name: str,
        values: NDArray[np.float32],
        axis: int,
        least: NDArray[np.float32] | None,
        scales: NDArray[np.float32] | None = None,
    ) -> onnx.NodeProto:
        """Store weights as INT8, symmetric for each output channel, and make their DQ."""
        return self._weight(name, *quantized_weights(values, axis, least, scales), axis)

    def fp8_weight(self, name: str, values: NDArray[np.float32], axis: int) -> onnx.NodeProto:
        """Store weights as FP8, with a scale for each output channel, and make their DQ."""
        return self._weight(name, *fp8_weights(values, axis), axis)

    def _weight(
        self, name: str, rounded: NDArray[Any], scales: NDArray[np.float32], axis: int
    ) -> onnx.NodeProto:
        inputs = [
            self.constant(f"{name}_quantized", rounded),
            self.constant(f"{name}_scale", scales),
            self.constant(f"{name}_zero_point", np.zeros(scales.shape, rounded.dtype)),
        ]
        real = self.name(f"{name}_dequantized")
        return helper.make_node("DequantizeLinear", inputs, [real], f"{real}_DQ", axis=axis)

    def constant(self, name: str, values: NDArray[Any] | np.generic) -> str:
        """Store a constant and return the name that it got."""
        name = self.name(name)
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def name(self, wanted: str) -> str:
        """Return a name that is free, and take it."""
        name = wanted
        for number in count(2):
            if name not in self._taken:
                break
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name
