"""Read an ONNX file and the model contract inside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from edgedetr.graph.checksum import MOST_BYTES, external_files
from edgedetr.graph.wiring import replace_items
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec, no_spec, spec_from_json

if TYPE_CHECKING:
    from pathlib import Path

_CONSTANTS_APART = 4
"""The first version of the format whose constants need not be inputs, too."""

_WHOLE_BYTES = {
    getattr(onnx.TensorProto, name)
    for name in (
        *("FLOAT", "FLOAT16", "DOUBLE", "BOOL", "INT8", "INT16", "INT32", "INT64"),
        *("UINT8", "UINT16", "UINT32", "UINT64"),
    )
}
"""Types of which each number has bytes of its own."""


def load_onnx(path: Path) -> onnx.ModelProto:
    """Load an ONNX model with its external data, and check it.

    Constants that are listed among the inputs, as old exporters do, are constants only.

    Raises:
        ArtifactError: If the file is missing, damaged or too large, or breaks the ONNX standard.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; wanted an ONNX model")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ArtifactError(
            f"{path} has {size} bytes, wanted an ONNX model of at most {MOST_BYTES}"
        )
    external_files(path)
    try:
        model = onnx.load(path, format="protobuf")  # whatever its name ends with
        onnx.checker.check_model(model)
        _check_sizes(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not a whole ONNX model: {error}; export it again") from error
    _drop_constant_inputs(model)
    return model


def check_onnx_name(output: Path) -> None:
    """Refuse to write an ONNX model where its name does not say so, before any work.

    A device or a pipe is no such name, either: the manifest of a model lies beside it.

    Raises:
        UsageError: If the name does not end in ``.onnx``.
    """
    if output.suffix != ".onnx":
        raise UsageError(f"{output} is not the name of an ONNX file; give one that ends in .onnx")


def _check_sizes(model: onnx.ModelProto) -> None:
    """Refuse constants with fewer or more bytes than their shape has.

    Raises:
        ValueError: With the first.
    """
    for tensor in model.graph.initializer:
        if tensor.HasField("raw_data") and tensor.data_type in _WHOLE_BYTES:
            size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            wanted, found = size * math.prod(tensor.dims), len(tensor.raw_data)
            if found != wanted:
                raise ValueError(f"{tensor.name} has {found} bytes, but its shape needs {wanted}")


def _drop_constant_inputs(model: onnx.ModelProto) -> None:
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    if len(inputs) < len(model.graph.input):
        replace_items(model.graph.input, inputs)
        model.ir_version = max(model.ir_version, _CONSTANTS_APART)


def embedded_spec(model: onnx.ModelProto, source: Path) -> ModelSpec:
    """Return the spec in a model's metadata.

    Args:
        model: The model.
        source: Where it was found, for the messages.

    Raises:
        ArtifactError: If there is none, or it does not fit the model.
    """
    texts = [p.value for p in model.metadata_props if p.key == METADATA_KEY]
    if not texts:
        raise no_spec(source)
    return spec_from_json(texts[0], str(source))
