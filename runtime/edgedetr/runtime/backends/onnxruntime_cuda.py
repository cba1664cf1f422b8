"""Run ONNX files with ONNX Runtime's CUDA provider, from onnxruntime-gpu, without a fallback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.runtime.backends import onnxruntime

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.backends.onnxruntime import OnnxSession
    from edgedetr.runtime.spec import ModelSpec

SUFFIXES = (".onnx",)


def open_session(path: Path, spec: ModelSpec | None = None, *, steady: bool = False) -> OnnxSession:
    """Load an ONNX file of a static batch; frames go through buffers of the CPU.

    Raises:
        ArtifactError: If the file is missing, damaged, without a spec or not what the spec says.
        UsageError: If this ONNX Runtime lacks the provider.
        BackendError: If the provider does not start on this machine.
    """
    return onnxruntime.open_session(path, spec, provider=onnxruntime.CUDA, steady=steady)
