"""Run a model over frames and note the range of every float tensor in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from edgedetr.export.fp16_islands import Range
from edgedetr.runtime.errors import ArtifactError, DataError
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec

_FATAL_ONLY = 4


def value_ranges(
    model: onnx.ModelProto,
    types: Mapping[str, int],
    spec: ModelSpec,
    frames: Iterable[NDArray[np.uint8]],
) -> dict[str, Range]:
    """Measure the least and the largest value of each float tensor that a node makes.

    They are reduced inside the graph, so that no activation is handed out.

    Args:
        model: A float32 model of batch 1.
        types: Element type of each tensor.
        spec: How to feed it.
        frames: RGB images, uint8 (H, W, 3).

    Raises:
        ArtifactError: If ONNX Runtime does not take the model.
        DataError: If a frame makes a tensor that holds NaN.
    """
    made = [name for node in model.graph.node for name in node.output]
    names = [name for name in made if types.get(name) == onnx.TensorProto.FLOAT]
    session = _reducing(model, names)
    preprocess = Preprocessor(spec)
    images = np.zeros((1, 3, *spec.input_hw), np.float32)
    lows, highs = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for frame in frames:
        preprocess(frame, images[0])
        seen = np.array(session.run(None, {spec.input_name: images}), np.float64).reshape(-1, 2)
        if np.isnan(seen).any():
            name = names[int(np.flatnonzero(np.isnan(seen).any(axis=1))[0])]
            raise DataError(f"the tensor {name} holds NaN already in FP32; export the model again")
        lows, highs = np.minimum(lows, seen[:, 0]), np.maximum(highs, seen[:, 1])
    finite = zip(names, _finite(lows), _finite(highs), strict=True)
    return {name: Range(low, high) for name, low, high in finite}


def _finite(values: NDArray[np.float64]) -> list[float]:
    """Leave infinite values out: FP16 holds them as well."""
    return [float(v) for v in np.where(np.isfinite(values), values, 0.0)]


def _reducing(model: onnx.ModelProto, names: list[str]) -> onnxruntime.InferenceSession:
    """Open a model that answers with the least and the largest value of each tensor."""
    reducing = onnx.ModelProto()
    reducing.CopyFrom(model)
    graph = reducing.graph
    del graph.output[:]
    for position, name in enumerate(names):
        for end in ("Min", "Max"):
            out = f"range_{position}_{end}"
            graph.node.append(helper.make_node(f"Reduce{end}", [name], [out], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(
            reducing.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        raise ArtifactError(f"ONNX Runtime cannot load the model: {error}") from error
