"""Inference backends, one file each; every file offers ``SUFFIXES`` and ``open_session``.

A backend's library is imported no earlier than its file, so only the chosen one must be installed.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, cast

from edgedetr.runtime.cuda.preflight import builder_of
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec


class Session(Protocol):
    """A loaded model that owns its input and output buffers until it is closed.

    It serves one thread at a time, which need not be the one that opened it. A session may also
    have ``feed(image)``, see `edgedetr.runtime.cuda.engine_session`: it preprocesses a frame on the
    device, and the next `infer` runs on that instead of on ``images``.

    Attributes:
        runs_on: Library and device, for a reader; with ``auto`` also what was measured.
    """

    runs_on: str

    @property
    def spec(self) -> ModelSpec:
        """The contract of the model."""
        ...

    @property
    def images(self) -> NDArray[np.float32]:
        """The input buffer, float32 (B, 3, H, W); the caller writes into it until `close`."""
        ...

    def infer(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run on ``images``; return logits (B, Q, K) and boxes (B, Q, 4), owned by the session.

        The returned arrays are valid until the next call.

        Raises:
            ValueError: If the session is closed.
            BackendError: If the device or its library fails.
        """
        ...

    def close(self) -> None:
        """Free the buffers; a second call does nothing."""
        ...


class BackendModule(Protocol):
    """What a file in this folder must define."""

    SUFFIXES: tuple[str, ...]

    def open_session(
        self, path: Path, spec: ModelSpec | None = None, *, steady: bool = False
    ) -> Session:
        """Load an artifact.

        Args:
            path: The artifact.
            spec: Replaces the one stored inside it (foreign models).
            steady: Whether threads of the CPU that wait sleep instead of spinning: slower where
                the machine is idle, and much faster where it is not.
        """
        ...


def suited_backend(path: Path) -> str:
    """Return the backend that runs an artifact when nobody names one; nothing is measured.

    An engine's library is the one that built it. An ONNX file runs in ONNX Runtime, or in OpenVINO
    where only that is installed, so that one artifact answers alike at every start; ``auto`` is
    for who wants the fastest and takes the time to measure.

    Raises:
        ArtifactError: If the manifest of an engine is missing or does not say what built it.
    """
    if path.suffix == ".engine":
        return builder_of(read_manifest(path), path)
    is_only = find_spec("openvino") and not find_spec("onnxruntime")
    return "openvino" if is_only else "onnxruntime"


def backend(name: str) -> BackendModule:
    """Return the backend module called ``name``.

    Raises:
        UnknownNameError: If there is none.
        UsageError: If its library is not installed.
    """
    try:
        return cast("BackendModule", find(__name__, name))
    except ModuleNotFoundError as error:
        extra = name.partition("_")[0] if name.startswith("onnxruntime") else name
        raise UsageError(
            f"backend {name} needs the package {error.name}, which is not installed: "
            f"pip install 'edgedetr[{extra.replace('_', '-')}]'"
        ) from error
