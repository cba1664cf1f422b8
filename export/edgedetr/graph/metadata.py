"""The metadata of an ONNX file: the spec of its model and the versions that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from edgedetr.runtime.spec import METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from edgedetr.runtime.spec import ModelSpec

VERSIONS_KEY = "edgedetr.versions"
"""Key of the versions of the packages that made the file, separated by spaces."""


def set_metadata(model: onnx.ModelProto, spec: ModelSpec, versions: Sequence[str]) -> None:
    """Store spec and versions in a model's metadata; other entries stay."""
    others = {p.key: p.value for p in model.metadata_props}
    own = {METADATA_KEY: spec.to_json(), VERSIONS_KEY: " ".join(versions)}
    helper.set_model_props(model, others | own)
