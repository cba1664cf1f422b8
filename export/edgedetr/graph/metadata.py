"""The metadata of an ONNX file: the spec of its model and the versions that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper

from edgedetr.runtime.spec import METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.runtime.spec import ModelSpec

VERSIONS_KEY = "edgedetr.versions"
"""Key of the versions of the packages that made the file, separated by spaces."""

TARGET_KEY = "edgedetr.int8_target"
"""Key of what an INT8 file was quantized for."""


def int8_target(model: onnx.ModelProto) -> str:
    """Return what an INT8 graph was quantized for.

    That is what its metadata says. Of a graph without such an entry a zero point that is not 0 says
    that it is for ``a CPU``; empty where nothing says it.
    """
    said = [p.value for p in model.metadata_props if p.key == TARGET_KEY]
    zeros = {n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[2:]}
    unsigned = onnx.TensorProto.UINT8
    is_unsigned = any(t.name in zeros and t.data_type == unsigned for t in model.graph.initializer)
    return said[0] if said else "a CPU" if is_unsigned else ""


def set_metadata(
    model: onnx.ModelProto, spec: ModelSpec, versions: Sequence[str], target: str = ""
) -> None:
    """Store spec, versions and an INT8 model's target in its metadata; other entries stay."""
    others = {p.key: p.value for p in model.metadata_props}
    own = {METADATA_KEY: spec.to_json(), VERSIONS_KEY: " ".join(versions)}
    own |= {TARGET_KEY: target} if target else {}
    helper.set_model_props(model, others | own)
