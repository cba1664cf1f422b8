"""Count the types of an engine's layers by the library's inspector."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

WORDS = {"int8": "INT8", "fp16": "FP16", "half": "FP16", "fp32": "FP32", "float": "FP32"}
"""The inspector's words in TensorRT 10 and 11 to ours."""


def layer_types(
    trt: Any,  # noqa: ANN401
    logger: Any,  # noqa: ANN401
    engine: bytes,
    *,
    host_code: bool,
) -> dict[str, int] | None:
    """Count the types of the layers of an engine, where this machine can load it.

    Args:
        trt: The module ``tensorrt`` or ``tensorrt_rtx``.
        logger: The process's logger of that library.
        engine: The engine.
        host_code: Whether to run the code inside a version-compatible engine.

    Returns:
        Type to the number of layers that read or write a tensor of it, a layer once for each, the
        most frequent first; None where the engine cannot be loaded or its inspector gives no list
        of layers.
    """
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = host_code
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        return None
    text = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    counts: Counter[str] = Counter()
    for layer in _layers(text):
        counts.update(_types_of(layer))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))) or None


def _layers(text: str) -> list[dict[str, Any]]:
    """Read the inspector's layers; none where its JSON is broken, as by names that hold quotes."""
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, TypeError, LookupError):
        return []
    # a layer is a name alone where the engine was built without details
    return [layer for layer in layers if isinstance(layer, dict)]


def _types_of(layer: Mapping[str, Any]) -> set[str]:
    """Return the types of a layer's tensors."""
    found = set()
    for tensor in [*layer.get("Inputs", []), *layer.get("Outputs", [])]:
        fields = {key.lower(): value for key, value in tensor.items()}
        said = fields.get("datatype") or fields.get("format/datatype") or ""
        found |= {WORDS[word] for word in re.findall(r"[a-z0-9]+", said.lower()) if word in WORDS}
    return found
