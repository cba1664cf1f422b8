"""Run engines with TensorRT 10.3 to 11 on the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.runtime.cuda.engine_session import open_engine

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.cuda.engine_session import EngineSession
    from edgedetr.runtime.spec import ModelSpec

SUFFIXES = (".engine",)


def open_session(
    path: Path,
    spec: ModelSpec | None = None,
    *,
    steady: bool = False,  # noqa: ARG001 - the GPU does the work
) -> EngineSession:
    """Load an engine that was built for this machine.

    Raises:
        ArtifactError: If the engine or its manifest is missing, damaged, or for another library,
            version or GPU than this machine's.
        BackendError: If there is no GPU, or not enough memory on it.
        UsageError: If the library or pycuda is not installed.
    """
    return open_engine(path, spec, "tensorrt")
