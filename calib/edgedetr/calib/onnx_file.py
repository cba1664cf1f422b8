"""Read an ONNX file and the model contract inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec, no_spec, spec_from_json

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
        raise no_spec(source)
    return spec_from_json(texts[0], str(source))
