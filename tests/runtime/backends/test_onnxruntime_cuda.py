"""The CUDA provider: asked for by name, and nothing in its place."""

import pytest

from edgedetr.runtime.backends import onnxruntime, onnxruntime_cuda
from edgedetr.runtime.errors import BackendError, UsageError


def test_the_provider_that_was_asked_for_runs_and_is_named(tiny_onnx, gpu_providers):
    session = onnxruntime_cuda.open_session(tiny_onnx())
    assert session.runs_on.endswith("CUDAExecutionProvider")
    assert gpu_providers.asked == [[onnxruntime.CUDA, onnxruntime.CPU]]


def test_a_provider_that_does_not_start_is_not_replaced(tiny_onnx, gpu_providers):
    gpu_providers.starting = [onnxruntime.CPU]
    with pytest.raises(BackendError, match=r"does not start on this machine, .* would use CPU"):
        onnxruntime_cuda.open_session(tiny_onnx())


def test_a_build_without_the_provider_is_refused(tiny_onnx, gpu_providers):
    gpu_providers.present = [onnxruntime.CPU]
    with pytest.raises(UsageError, match=r"has no .*ExecutionProvider, only CPU.* onnxruntime-gpu"):
        onnxruntime_cuda.open_session(tiny_onnx())
