"""Read by the library's inspector what an engine's layers compute in."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WORDS = {"int8": "INT8", "fp16": "FP16", "half": "FP16", "fp32": "FP32", "float": "FP32"}
"""The inspector's words in TensorRT 10 and 11 to ours."""

PRODUCTS = ("convolution", "correlation", "gemm", "matrixmultiply", "fullyconnected")
"""Parts of the inspector's kinds of layers that carry multiply-accumulates."""

_ONNX_NAMES = re.compile(r"\s\+\s|\[ONNX Layer: |\]|[\x1e\x1f]")
"""What stands between the names of the ONNX nodes that were fused into a layer."""


@dataclass(frozen=True)
class EngineLayers:
    """The layers of an engine.

    Attributes:
        types: Type to the number of layers that read or write a tensor of it, a layer once for
            each, the most frequent first.
        products: Type to the number of convolutions and matrix products that read it. Those that
            the library fused into regions of its own are not listed by it.
        int8: Names of the ONNX nodes in products that read INT8, sorted.
        others: Names of the ONNX nodes in products that do not, sorted.
        reformats: Layers that change only the layout or the type of a tensor.
        quantizers: Quantizations and dequantizations that no layer took in.
        plugins: Layers that are plugins.
    """

    types: dict[str, int]
    products: dict[str, int]
    int8: tuple[str, ...]
    others: tuple[str, ...]
    reformats: int
    quantizers: int
    plugins: int = 0

    @property
    def computes_in(self) -> dict[str, int]:
        """Types of the products, or of all layers where the inspector names no product."""
        return self.products or self.types

    def lost_int8(self, wanted: Iterable[str]) -> list[str]:
        """Return which INT8 products of the graph the engine computes in another type, sorted.

        Args:
            wanted: Names of the ONNX nodes. One that the inspector does not name, since a region of
                the library took it in, is not counted as lost.
        """
        return sorted({*wanted} & {*self.others} - {*self.int8})

    def describe(self) -> str:
        """Return a one-line summary."""
        types = _listed(self.types)
        types += f"; {counted(self.plugins, 'plugin')}" if self.plugins else ""
        if not self.products:
            return types
        return (
            f"{types}; products: {_listed(self.products)}; {counted(self.reformats, 'reformat')}, "
            f"{counted(self.quantizers, 'quantizer')} left over"
        )


def engine_layers(
    trt: Any,  # noqa: ANN401
    logger: Any,  # noqa: ANN401
    engine: bytes,
    *,
    host_code: bool,
) -> EngineLayers | None:
    """Inspect an engine, where this machine can load it.

    Args:
        trt: The module ``tensorrt`` or ``tensorrt_rtx``.
        logger: The process's logger of that library.
        engine: The engine.
        host_code: Whether to run the code inside a version-compatible engine.

    Returns:
        Its layers; None where the engine cannot be loaded or its inspector gives no types.
    """
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = host_code
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        return None
    text = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    layers = _layers(text)
    types = Counter(kind for layer in layers for kind in _types(layer))
    return _sorted_out(layers, types) if types else None


def _sorted_out(layers: list[dict[str, Any]], types: Counter[str]) -> EngineLayers:
    products: Counter[str] = Counter()
    names: dict[bool, set[str]] = {True: set(), False: set()}
    for layer in filter(_is_product, layers):
        read = _product_type(layer)
        products[read] += 1
        names[read == "INT8"] |= _onnx_names(layer)
    origins = Counter(_origin(layer) for layer in layers)
    return EngineLayers(
        types=_most_first(types),
        products=_most_first(products),
        int8=tuple(sorted(names[True])),
        others=tuple(sorted(names[False])),
        reformats=origins["reformat"],
        quantizers=origins["qdq"],
        plugins=sum("plugin" in str(layer.get("LayerType", "")).lower() for layer in layers),
    )


def _layers(text: str) -> list[dict[str, Any]]:
    """Read the inspector's layers; none where its JSON is broken, as by names that hold quotes."""
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, TypeError, LookupError):
        return []
    # a layer is a name alone where the engine was built without details
    return [layer for layer in layers if isinstance(layer, dict)]


def _is_product(layer: Mapping[str, Any]) -> bool:
    kind = str(layer.get("LayerType", "")).lower()
    return any(word in kind for word in PRODUCTS) and bool(_tensor_types(layer, "Inputs"))


def _product_type(layer: Mapping[str, Any]) -> str:
    """Return the type of the first input: of the image or the features, before skip and bias."""
    return next(iter(_tensor_types(layer, "Inputs")))


def _origin(layer: Mapping[str, Any]) -> str:
    kind, origin = (str(layer.get(key, "")).lower() for key in ("LayerType", "Origin"))
    return "reformat" if kind == "reformat" and origin != "qdq" else origin


def _onnx_names(layer: Mapping[str, Any]) -> set[str]:
    said = f"{layer.get('Name', '')} + {layer.get('Metadata', '')}"
    return {part.strip() for part in _ONNX_NAMES.split(said)} - {""}


def _types(layer: Mapping[str, Any]) -> set[str]:
    """Return the types of a layer's tensors."""
    return {*_tensor_types(layer, "Inputs"), *_tensor_types(layer, "Outputs")}


def _tensor_types(layer: Mapping[str, Any], side: str) -> list[str]:
    """Return the types of a layer's inputs or outputs in their order; others are left out."""
    found = []
    for tensor in layer.get(side, []):
        fields = {key.lower(): value for key, value in tensor.items()}
        said = fields.get("datatype") or fields.get("format/datatype") or ""
        found += [WORDS[word] for word in re.findall(r"[a-z0-9]+", said.lower()) if word in WORDS]
    return found


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
