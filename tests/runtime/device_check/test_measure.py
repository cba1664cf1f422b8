"""One engine on the fake GPU."""

from importlib import import_module

import pytest

from edgedetr.runtime.device_check.agreement import Agreement
from edgedetr.runtime.device_check.engines import Engine
from edgedetr.runtime.device_check.measure import Pace, check_engine_runs
from edgedetr.runtime.errors import ArtifactError, BackendError
from edgedetr.runtime.images import list_images, read_frames

PACE = Pace(5, 1000.0)


@pytest.fixture
def frames(images):
    return read_frames(list_images(images))


def test_an_engine_that_agrees(inspected, engine_beside_onnx, frames, gpu):
    del inspected
    engine, onnx = engine_beside_onnx()
    shown = []
    found = check_engine_runs(Engine(engine, onnx, None), frames, PACE, lambda: shown.append(1))
    assert found.runs_on == "tensorrt 10.3.0, Orin (fake)"
    assert found.layers
    assert found.layers.types == {"FP32": 2, "FP16": 1}
    assert found.cuda_graph
    assert found.frame_kernel
    assert found.memory_mib is not None
    assert found.memory_mib >= 0
    assert (found.unpaced.samples, found.paced.samples, len(shown)) == (5, 5, 10)
    assert 0 <= found.misses <= 5
    # the object of the white image, in both models
    assert found.agreement == Agreement(2, 2, 0)
    gpu.check_clean()


def test_an_engine_that_finds_something_else(inspected, engine_beside_onnx, frames):
    del inspected
    engine, onnx = engine_beside_onnx(boxes=[[0.7, 0.5, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5]])
    found = check_engine_runs(Engine(engine, onnx, None), frames, PACE, lambda: None)
    assert found.agreement == Agreement(2, 2, 2)


def test_what_does_not_work_is_recorded(inspected, engine_beside_onnx, frames, gpu):
    inspected.clear()
    gpu.failing["cuStreamBeginCapture_v2"] = 801
    gpu.refuses_modules = True
    engine, _ = engine_beside_onnx()
    found = check_engine_runs(Engine(engine, None, None), frames, PACE, lambda: None)
    assert (found.layers, found.agreement) == (None, None)
    assert (found.cuda_graph, found.frame_kernel) == (False, False)


def test_an_engine_for_another_gpu_and_a_silent_driver(inspected, tiny_engine, frames, monkeypatch):
    del inspected
    with pytest.raises(ArtifactError, match=r"was built with TensorRT 10.3.0 for sm_80"):
        check_engine_runs(
            Engine(tiny_engine(targets=("sm_80",)), None, None), frames, PACE, lambda: None
        )
    driver = import_module("pycuda.driver")
    monkeypatch.setattr(driver, "mem_get_info", _refused(driver.LogicError))
    with pytest.raises(BackendError, match="does not say how much memory is free: refused"):
        check_engine_runs(Engine(tiny_engine(), None, None), frames, PACE, lambda: None)


def _refused(error):
    def call():
        raise error("refused")

    return call
