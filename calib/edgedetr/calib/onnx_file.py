"""Read an ONNX file and the model contract inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec, spec_from_json

if TYPE_CHECKING:
    from pathlib import Path


def load_onnx(path: Path) -> onnx.ModelProto:
    """Load an ONNX model and check it.

    Raises:
        ArtifactError: If the file is missing, damaged or breaks the ONNX standard.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; wanted an ONNX model")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError) as error:
        raise ArtifactError(f"{path}: not a whole ONNX model: {error}; export it again") from error
    return model


def embedded_spec(model: onnx.ModelProto, source: Path) -> ModelSpec:
    """Return the spec that lies in a model's metadata.

    Args:
        model: The model.
        source: Where it was found, for the messages.

    Raises:
        ArtifactError: If there is none, or it does not fit the model.
    """
    texts = [p.value for p in model.metadata_props if p.key == METADATA_KEY]
    if not texts:
        raise ArtifactError(f"{source} does not say what it eats; give --spec SPEC.toml")
    return spec_from_json(texts[0], str(source))


def input_batch(model: onnx.ModelProto, spec: ModelSpec, source: Path) -> int:
    """Return how many images a model takes at once; 1 where it is free.

    Raises:
        ArtifactError: If the model has no input of the spec's name and size.
    """
    found = {i.name: i.type.tensor_type for i in model.graph.input}
    if spec.input_name not in found:
        raise ArtifactError(
            f"{source} has the inputs {', '.join(found)}; its spec names {spec.input_name!r}"
        )
    tensor = found[spec.input_name]
    batch, *chw = [d.dim_value for d in tensor.shape.dim] or [0]
    wanted = (3, *spec.input_hw)
    fits = len(chw) == 3 and all(f in (0, w) for f, w in zip(chw, wanted, strict=True))
    if tensor.elem_type != onnx.TensorProto.FLOAT or not fits:
        raise ArtifactError(
            f"{source}: the input {spec.input_name!r} is {tuple(chw)} a frame; its spec wants "
            f"float32 {wanted}"
        )
    return batch or 1
