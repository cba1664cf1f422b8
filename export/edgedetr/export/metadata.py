"""What an ONNX file says about itself: the contract of its model and what made it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from onnx import helper

from edgedetr.runtime.spec import METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx

    from edgedetr.runtime.spec import ModelSpec

VERSIONS_KEY = "edgedetr.versions"
"""Key of the versions of the packages that made the file, separated by spaces."""


def versions_of(packages: Iterable[str]) -> tuple[str, ...]:
    """Name the installed version of each package, as ``name==version``."""
    return tuple(f"{name}=={version(name)}" for name in packages)


def set_metadata(model: onnx.ModelProto, spec: ModelSpec, versions: Sequence[str]) -> None:
    """Store spec and versions in a model's metadata; other entries stay."""
    others = {p.key: p.value for p in model.metadata_props}
    own = {METADATA_KEY: spec.to_json(), VERSIONS_KEY: " ".join(versions)}
    helper.set_model_props(model, others | own)
