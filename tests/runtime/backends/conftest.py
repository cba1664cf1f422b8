"""ONNX Runtime with providers for GPUs, in name."""

from types import SimpleNamespace

import onnxruntime as ort
import pytest

from edgedetr.runtime.backends import onnxruntime


@pytest.fixture
def gpu_providers(monkeypatch):
    """Let ONNX Runtime have its providers for GPUs, in name; the CPU does the work.

    Returns:
        What may be set: ``present``, the providers of the build, and ``starting``, those that start
        on this machine.
    """
    state = SimpleNamespace(
        present=[onnxruntime.CUDA, onnxruntime.CPU],
        starting=[onnxruntime.CUDA, onnxruntime.CPU],
        asked=[],
    )

    class Session(ort.InferenceSession):  # type: ignore[misc]
        def __init__(self, path, options, providers, enable_fallback):
            assert enable_fallback == 0
            state.asked.append(providers)
            self._named = [p for p in providers if p in state.starting]
            super().__init__(path, options, providers=[onnxruntime.CPU])

        def get_providers(self):
            return self._named

    monkeypatch.setattr(ort, "get_available_providers", lambda: state.present)
    monkeypatch.setattr(ort, "InferenceSession", Session)
    return state
