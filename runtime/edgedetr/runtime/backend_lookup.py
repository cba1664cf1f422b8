"""Find a backend by its name, or the one that suits an artifact."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from edgedetr.runtime.cuda.preflight import builder_of
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.session import BackendModule

BACKENDS = "edgedetr.runtime.backends"
"""The package in which each file is a backend."""


def backend(name: str) -> BackendModule:
    """Return the backend module called ``name``.

    Raises:
        UnknownNameError: If there is none.
        UsageError: If its library is not installed.
    """
    try:
        return cast("BackendModule", find(BACKENDS, name))
    except ModuleNotFoundError as error:
        extra = name.partition("_")[0] if name.startswith("onnxruntime") else name
        raise UsageError(
            f"backend {name} needs the package {error.name}, which is not installed: "
            f"pip install 'edgedetr[{extra.replace('_', '-')}]'"
        ) from error


def suited_backend(path: Path) -> str:
    """Return the backend that runs an artifact when none is named; nothing is measured.

    An engine's library is the one that built it. An ONNX file runs in ONNX Runtime, or in OpenVINO
    where only that is installed, so that an artifact gives the same outputs after every start;
    ``auto`` measures which one is the fastest.

    Raises:
        ArtifactError: If the manifest of an engine is missing or names no builder.
    """
    if path.suffix == ".engine":
        return builder_of(read_manifest(path), path)
    is_only = find_spec("openvino") and not find_spec("onnxruntime")
    return "openvino" if is_only else "onnxruntime"
