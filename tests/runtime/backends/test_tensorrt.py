"""What is missing on a machine without TensorRT is named; a given spec counts."""

import sys

import numpy as np
import pytest

from edgedetr.runtime.backends import tensorrt
from edgedetr.runtime.cuda import engine_session
from edgedetr.runtime.errors import BackendError, UsageError
from edgedetr.runtime.spec import ModelSpec


def test_no_gpu_is_named(install_trt, tiny_engine, gpu):
    install_trt()
    gpu.is_lost = True
    with pytest.raises(BackendError, match="TensorRT needs a GPU, and CUDA finds none: cuInit"):
        tensorrt.open_session(tiny_engine())


@pytest.mark.parametrize(
    ("missing", "message"),
    [("pycuda.driver", "pycuda is needed"), ("tensorrt", "tensorrt is needed .*with JetPack")],
)
def test_a_missing_library_is_named(install_trt, tiny_engine, monkeypatch, missing, message):
    install_trt()
    monkeypatch.setitem(engine_session.INSTALL, "x", "")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=message):
        tensorrt.open_session(tiny_engine())


def test_a_given_spec_replaces_that_of_the_manifest(install_trt, tiny_engine):
    install_trt()
    session = tensorrt.open_session(tiny_engine(), ModelSpec((8, 16), ("bus", "tram")))
    assert session.spec.class_names == ("bus", "tram")
    session.images[...] = np.float32(1)
    session.close()
