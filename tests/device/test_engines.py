"""Engines on a real GPU; the fakes in tests/runtime/cuda stand for it elsewhere."""

import threading
from importlib.util import find_spec

import numpy as np
import pytest

from edgedetr.export.to_engine import export_engine
from edgedetr.runtime import Detector, Frame
from edgedetr.runtime.backend_lookup import backend
from edgedetr.runtime.backends import onnxruntime
from edgedetr.runtime.spec import ModelSpec

pytestmark = [pytest.mark.gpu, pytest.mark.tensorrt]


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def engine(request, device, tiny_onnx, tmp_path):
    """The tiny model as an engine that was built here, and the library that runs it."""
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    path = tmp_path / "tiny.engine"
    spec = ModelSpec((64, 96), ("Car", "Pedestrian"), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    export_engine(tiny_onnx(spec=spec), path, backend=request.param)
    assert device.compute_capability
    return path, request.param


@pytest.fixture
def session(engine):
    path, library = engine
    opened = backend(library).open_session(path)
    yield opened
    opened.close()


def test_an_engine_answers_as_onnx_runtime_does(session, engine):
    reference = onnxruntime.open_session(engine[0].with_suffix(".onnx"))
    for seed in range(3):
        values = np.random.default_rng(seed).normal(size=session.images.shape)
        session.images[...] = reference.images[...] = values
        for found, wanted in zip(session.infer(), reference.infer(), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_the_run_is_recorded_as_a_graph_and_frames_are_fed_on_the_device(session):
    assert "without a CUDA graph" not in session.runs_on
    assert session.feed is not None, session.runs_on


def test_threads_have_sessions_of_their_own(engine):
    path, library = engine
    answers = {}

    def work(value):
        session = backend(library).open_session(path)
        for _ in range(50):
            session.images[...] = value
            answers[value] = session.infer()[0].copy()
        session.close()

    threads = [threading.Thread(target=work, args=(v,)) for v in (0.0, 1.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers[1.0][0, 0, 0] - answers[0.0][0, 0, 0] == pytest.approx(8, abs=1e-3)


def test_a_detector_gives_the_memory_back(engine):
    import pycuda.driver as drv

    from edgedetr.runtime.cuda.context import PrimaryContext

    path, _ = engine
    frame = Frame(np.zeros((375, 1242, 3), np.uint8))
    free = []
    for _ in range(6):
        with Detector.open(path) as detector:
            detector.detect(frame)
        with PrimaryContext(drv):
            free.append(drv.mem_get_info()[0])
    assert free[1] - free[-1] < 1 << 20
