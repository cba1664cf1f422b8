"""Note the range of every float tensor of a model, to tell what FP16 can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from edgedetr.graph.exact import exact_session
from edgedetr.graph.wiring import element_types
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnxruntime
    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec

_ENDS = ("Min", "Max")


@dataclass(frozen=True)
class Range:
    """The values that a tensor took.

    Attributes:
        least: The smallest, infinite ones apart.
        largest: The largest, infinite ones apart.
    """

    least: float
    largest: float

    @property
    def magnitude(self) -> float:
        """The largest magnitude."""
        return max(abs(self.least), abs(self.largest))

    def joined(self, magnitude: float) -> Range:
        """Return the range that also holds a magnitude, of either sign."""
        return Range(min(self.least, -magnitude), max(self.largest, magnitude))


class RangeProbe:
    """Runs a model and keeps the least and the largest value of each float tensor that it makes.

    They are reduced inside the graph, so that no activation is handed out.

    Args:
        model: A float32 model.

    Raises:
        ArtifactError: If ONNX Runtime does not take the model.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        types = element_types(model)
        made = [name for node in model.graph.node for name in node.output]
        self._names = [name for name in made if types.get(name) == onnx.TensorProto.FLOAT]
        self._session = _reducing(model, self._names)
        self._lows = np.full(len(self._names), np.inf)
        self._highs = np.full(len(self._names), -np.inf)

    def add(self, name: str, images: NDArray[np.float32]) -> None:
        """Run on a batch, fed as the input ``name``.

        Raises:
            DataError: If it makes a tensor that holds NaN.
        """
        seen = np.array(self._session.run(None, {name: images}), np.float64).reshape(-1, 2)
        if np.isnan(seen).any():
            tensor = self._names[int(np.flatnonzero(np.isnan(seen).any(axis=1))[0])]
            raise DataError(f"the tensor {tensor} holds NaN already in FP32; export it again")
        self._lows = np.minimum(self._lows, seen[:, 0])
        self._highs = np.maximum(self._highs, seen[:, 1])

    def ranges(self) -> dict[str, Range]:
        """Return what was seen so far."""
        finite = zip(self._names, _finite(self._lows), _finite(self._highs), strict=True)
        return {name: Range(low, high) for name, low, high in finite}


def value_ranges(
    model: onnx.ModelProto, spec: ModelSpec, frames: Iterable[NDArray[np.uint8]]
) -> dict[str, Range]:
    """Measure the range of each float tensor that a node makes.

    Args:
        model: A float32 model; a batch larger than 1 is filled with one frame.
        spec: How to feed it.
        frames: RGB images, uint8 (H, W, 3).

    Raises:
        ArtifactError: If ONNX Runtime does not take the model.
        DataError: If a frame makes a tensor that holds NaN.
    """
    probe, preprocess = RangeProbe(model), Preprocessor(spec)
    shape = next(i.type.tensor_type.shape for i in model.graph.input if i.name == spec.input_name)
    images = np.zeros((shape.dim[0].dim_value or 1, 3, *spec.input_hw), np.float32)
    for frame in frames:
        preprocess(frame, images[0])
        images[1:] = images[0]
        probe.add(spec.input_name, images)
    return probe.ranges()


def _finite(values: NDArray[np.float64]) -> list[float]:
    """Leave infinite values out: FP16 holds them as well."""
    return [float(v) for v in np.where(np.isfinite(values), values, 0.0)]


def _reducing(model: onnx.ModelProto, names: list[str]) -> onnxruntime.InferenceSession:
    """Open a model that answers with the least and the largest value of each tensor.

    Each is reduced as soon as it is made, by order of the nodes: reductions at the end would keep
    every activation in memory until then.
    """
    wanted = {name: position for position, name in enumerate(names)}
    reducing = onnx.ModelProto()
    reducing.CopyFrom(model)
    graph = reducing.graph
    del graph.node[:], graph.output[:]
    for node in model.graph.node:
        graph.node.append(node)
        for name in (n for n in node.output if n in wanted):
            graph.node.extend(
                helper.make_node(f"Reduce{end}", [name], [_answer(wanted[name], end)], keepdims=0)
                for end in _ENDS
            )
    graph.output.extend(
        helper.make_tensor_value_info(_answer(position, end), onnx.TensorProto.FLOAT, [])
        for position in range(len(names))
        for end in _ENDS
    )
    return exact_session(reducing, "the model", fused="none", in_order=True)


def _answer(position: int, end: str) -> str:
    return f"range_{position}_{end}"
